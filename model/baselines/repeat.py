"""Asking a backbone whose weights carry a text to say it: the request, the loss of the answer, the answer.

Shapes: B texts, L tokens, P positions of the request, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from model.backbone import Backbone
from model.codec import ROOM
from model.latents import draft_tokens
from model.training.losses import Batch, Prefix, Scored, reconstruction

REQUEST = "Repeat the input.\n"  # nothing else stands in the prompt


@dataclass(frozen=True, slots=True)
class Asked:
    """A backbone as `reconstruction` reads it: nothing is compiled, nothing recomputed."""

    backbone: Backbone
    compiles: bool = False

    def recomputing(self) -> AbstractContextManager[None]:
        return nullcontext()


def request(backbone: Backbone, rows: int) -> Prefix:
    """End-of-text, then the request: embeddings [B, P, D]."""
    ids = torch.tensor([backbone.end_token, *backbone.tokenizer.encode(REQUEST)], device=backbone.device)
    lengths_B = torch.full((rows,), len(ids), device=backbone.device)
    return Prefix(backbone.embed(ids).expand(rows, -1, -1), lengths_B)


def repeating(backbone: Backbone, batch: Batch) -> Scored:
    """Loss of the texts and their ends after the request, with whatever is injected."""
    return reconstruction(Asked(backbone), request(backbone, len(batch.ids_BL)), batch)


def reading(backbone: Backbone, batch: Batch) -> Scored:
    """Loss of the texts and their ends as a document's start, with whatever is injected."""
    ids_1 = torch.tensor([backbone.end_token], device=backbone.device)
    start = Prefix(backbone.embed(ids_1).expand(len(batch.ids_BL), -1, -1), torch.ones_like(batch.lengths_B))
    return reconstruction(Asked(backbone), start, batch)


@torch.no_grad()
def repeated(backbone: Backbone, lengths: Sequence[int]) -> list[np.ndarray]:
    """Greedy answers, each up to its end, at most ROOM tokens longer than its text was."""
    free_BL = torch.full((len(lengths), max(lengths) + ROOM), -1, device=backbone.device)
    tokens_BL = draft_tokens(backbone, request(backbone, len(lengths)).embeds_BPD, free_BL).cpu().numpy()
    answers = []
    for row, length in zip(tokens_BL, lengths, strict=True):
        ends = np.flatnonzero(row[: length + ROOM] == backbone.end_token)
        answers.append(row[: ends[0] if len(ends) else length + ROOM])
    return answers
