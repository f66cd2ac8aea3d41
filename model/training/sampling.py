"""What the decoder writes on its own at a place of the curriculum: greedy, free-running, until end-of-text.

Shapes: one chunk of L tokens, s latents, D hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.cache import roomy_cache
from model.codec import ROOM
from model.latents import encode_latents
from model.training.curriculum import Place
from model.training.losses import Batch, latent_prefix, make_batch, text_prefix

if TYPE_CHECKING:
    from model.training.trainee import Trainee


@dataclass(frozen=True, slots=True)
class Sample:
    """A chunk and what was made of it."""

    source: str
    written: str
    whole: bool  # every token, and the end where it belongs


@torch.no_grad()
def write_sample(trainee: Trainee, chunk_L: np.ndarray, place: Place) -> Sample:
    """Decode one chunk from what the decoder reads at this place: the text, or s latents and the tail."""
    batch = make_batch([chunk_L], trainee.backbone.device)
    if place.stage == 1:
        prefix = text_prefix(trainee, batch)
    else:
        prefix = latent_prefix(trainee, batch, _latents(trainee, batch, place.substage))
    with trainee.adapter("decoder"):
        tokens = greedy(trainee, prefix.embeds_BPD, len(chunk_L) + ROOM)
    tokenizer = trainee.backbone.tokenizer
    return Sample(tokenizer.decode(chunk_L), tokenizer.decode(tokens), tokens == chunk_L.tolist())


def greedy(trainee: Trainee, prefix_1PD: torch.Tensor, limit: int) -> list[int]:
    """At most `limit` tokens, the end-of-text left out. The adapter is the caller's."""
    backbone = trainee.backbone
    cache = roomy_cache(backbone.model.config, prefix_1PD.shape[1] + limit)
    tokens: list[int] = []
    embeds = prefix_1PD
    while len(tokens) < limit:
        hidden = backbone.body(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state
        token = backbone.head(hidden[:, -1]).argmax(-1)
        if int(token) == trainee.backbone.end_token:
            break
        tokens.append(int(token))
        embeds = backbone.embed(token[:, None])
    return tokens


def _latents(trainee: Trainee, batch: Batch, substage: int) -> torch.Tensor:
    gain = trainee.gain.to(trainee.backbone.dtype)
    with trainee.adapter("encoder"):
        marker_D, slots_KD = trainee.marker_D, trainee.slots_KD
        return encode_latents(trainee.backbone, batch.ids_BL, batch.lengths_B, marker_D, gain, substage, slots_KD)
