"""Latents as a model reads them. Shapes: N chunks, K latents, D hidden width."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from model.refusal import Refusal
from pipeline import schema

if TYPE_CHECKING:
    import torch

    from model.codec import Codec


@dataclass(frozen=True, slots=True)
class Latents:
    """What a model reads in place of the chunks' texts."""

    chunk_ids: tuple[str, ...]
    values: torch.Tensor  # float32 [N, K, D], dequantised
    _codec: Codec = field(repr=False, compare=False)

    def as_embeds(self) -> torch.Tensor:
        """[N, K, D] in the backbone's dtype, on its device: rows for `inputs_embeds` of the same backbone."""
        return self._codec.as_embeds(self.values)


def latents_of(rows: pa.Table, codec: Codec, k: int | None = None) -> Latents:
    """Of memory rows and the codec that made them: all that a row stores, or the first k. Raises Refusal for more."""
    from pipeline.bank.recall import stored_latents

    values = stored_latents(rows, codec)
    return Latents(tuple(rows[schema.CHUNK_ID].to_pylist()), values[:, : first_of(k, values.shape[1])], codec)


def first_of(k: int | None, stored: int) -> int:
    """How many latents of a row's are read. Raises Refusal for none, and for more than a row stores."""
    if k is not None and not 1 <= k <= stored:
        raise Refusal(f"k is {k}: a row stores {stored} latents, of which the first 1 to {stored} can be read")
    return k or stored
