"""A memory is to stand for another text: encode that text, refine the latents that are there, or write a patch alone.

    encode   the new text's own latents                          one encoding
    refine   optimizer steps from the stored latents             2 to 3 encodings a step, and one for the embedding
    patch    the stored latents stay; the patch says the rest    one verifying pass; search still finds the old text

Each is verified against the new text, so recall is exact whichever it is. Shapes: B chunks, L text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from model.config import RefineConfig
from model.memory import Memory
from model.refusal import Refusal

if TYPE_CHECKING:
    from model.codec import Codec

ENCODE, REFINE, PATCH = METHODS = ("encode", "refine", "patch")
STEPS = 10  # of REFINE, at most


def require_method(method: str) -> str:
    """The method itself. Raises Refusal for one that is none."""
    if method not in METHODS:
        raise Refusal(f"there is no method {method!r} of editing: wanted {', '.join(METHODS)}")
    return method


def edited(
    codec: Codec, memories: Sequence[Memory], chunks: Sequence[np.ndarray], method: str, *, steps: int = STEPS
) -> list[Memory]:
    """One batch: what each memory becomes where it is to stand for its new chunk (token ids, 1 to chunk_tokens each).

    `memories` are as they are stored. `steps`: of REFINE, at most. Raises what `Codec.memorise` raises.
    """
    if method == ENCODE:
        return codec.memorise(chunks)
    if method == PATCH:
        verified = codec.verify(codec.stored_latents(memories), chunks)
        return [replace(m, fidelity=f, patch=p, refining=None) for m, (f, p) in zip(memories, verified, strict=True)]
    refined = codec.refine(codec.stored_latents(memories), chunks, RefineConfig(steps))
    return codec.keep(codec.encode(*codec.pad(chunks)), chunks, refined=refined)
