"""How much of a text comes back: words, names and numbers; and what the backbone guesses of it without latents.

F1 is the paper's: words of the lower-cased text as a bag. Shapes: B chunks, L tokens, D hidden width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from model.backbone import Backbone
from model.latents import read_tokens

TELLING = re.compile(r"\b(?:[A-Z]\w*|\w*\d\w*)\b")  # names and numbers, and what begins a sentence


def word_f1(text: str, drafted: str) -> float:
    """F1 of two bags of lower-cased words, parted by white space; 1 where both are empty."""
    wanted, found = Counter(text.lower().split()), Counter(drafted.lower().split())
    if not wanted or not found:
        return float(wanted == found)
    shared = (wanted & found).total()
    return 2 * shared / (wanted.total() + found.total())


def names_and_numbers(text: str, drafted: str) -> float | None:
    """Share of the text's capitalised words and words with digits that come back, as a bag; None where it has none."""
    telling = Counter(TELLING.findall(text))
    if not telling:
        return None
    return (telling & Counter(TELLING.findall(drafted))).total() / telling.total()


@torch.inference_mode()
def guessed(backbone: Backbone, chunks: Sequence[np.ndarray]) -> list[float]:
    """Share of each chunk's positions that the backbone gets right by itself, only the text before them given.

    One batch of chunks (token ids). What a codec's fidelity is to be compared with. Inside `Codec.plain` a codec's
    backbone is without its adapters.
    """
    longest = max(map(len, chunks))
    ids_BL = np.stack([np.pad(ids, (0, longest - len(ids))) for ids in chunks])
    ids_BL = torch.tensor(ids_BL, dtype=torch.long, device=backbone.device)
    start = torch.tensor(backbone.end_token, device=backbone.device)
    prefix_B1D = backbone.embed(start).expand(len(chunks), 1, -1)
    best_BL = read_tokens(backbone, prefix_B1D, ids_BL).argmax_BL.cpu().numpy()
    return [float((best_BL[i, : len(ids)] == ids).mean()) for i, ids in enumerate(chunks)]
