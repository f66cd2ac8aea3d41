"""The latent gain: how a latent, a state after the final norm, becomes what the backbone reads as an input embedding.

A latent fed back as it is swamps the residual stream; brought to an embedding's length (`fixed`, `learned`) it still
points elsewhere, and a decoder that copies embeddings word for word reads nothing from it. `linear` is the ridge
regression from states onto the embeddings of the tokens they predict, so that training starts with latents that a
decoder can read (docs/decisions.md has the figures; the paper feeds latents raw).

Shapes: N latents, B chunks, L tokens, S start positions, D hidden width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.backbone import Backbone
from model.finite import require_finite

RIDGE = 1e-2  # of the states' mean variance a channel
STRETCH = 2.0  # a regression's guesses are too short where they are unsure, and a decoder reads short ones worst
TOKENS_A_CHANNEL = 20  # to measure the regression on (docs/experiments.md)
BATCH = 32


@dataclass(frozen=True, slots=True)
class LatentGain:
    """`latent * factor_D`, or with a map `latent @ map_DD + shift_D`; with nothing the latent itself."""

    factor_D: torch.Tensor | None = None
    map_DD: torch.Tensor | None = None
    shift_D: torch.Tensor | None = None

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """[..., D] in the dtype of the latents, which must be the gain's."""
        if self.map_DD is not None:
            return latents @ self.map_DD + self.shift_D
        return latents if self.factor_D is None else latents * self.factor_D

    def to(self, *target) -> LatentGain:
        """On another device, in another dtype, or both."""
        return LatentGain(*(None if part is None else part.to(*target) for part in self._parts()))

    def detached(self) -> LatentGain:
        """A copy on the CPU, without graph."""
        return LatentGain(*(None if part is None else part.detach().cpu().clone() for part in self._parts()))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Under the names of a codec folder."""
        named = zip(("gain", "gain_map", "gain_shift"), self._parts(), strict=True)
        return {name: part for name, part in named if part is not None}

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> LatentGain:
        """The inverse of `tensors`; others are passed over. All float32."""
        parts = (tensors.get(name) for name in ("gain", "gain_map", "gain_shift"))
        return cls(*(None if part is None else part.float() for part in parts))

    def _parts(self) -> tuple[torch.Tensor | None, ...]:
        return self.factor_D, self.map_DD, self.shift_D


@dataclass(frozen=True, slots=True)
class Regression:
    """`(state - centre_D) @ map_DD + target_D` is the embedding that a state stands for. All float32."""

    centre_D: torch.Tensor
    map_DD: torch.Tensor
    target_D: torch.Tensor

    def to(self, *target) -> Regression:
        """On another device, in another dtype, or both."""
        return Regression(self.centre_D.to(*target), self.map_DD.to(*target), self.target_D.to(*target))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"gain_centre": self.centre_D, "gain_map": self.map_DD, "gain_target": self.target_D}

    def gain(self, factor_D: torch.Tensor | float = 1.0) -> LatentGain:
        """As a gain whose output channels are scaled by a factor, the embeddings' mean aside."""
        map_DD = self.map_DD * factor_D
        return LatentGain(None, map_DD, self.target_D - self.centre_D @ map_DD)


def length_gain(backbone: Backbone, latents_NKD: torch.Tensor) -> LatentGain:
    """The constant that gives a latent the length of an input embedding. NotFiniteError: there is none."""
    ratio = backbone.embed.weight.float().norm(dim=-1).mean().cpu() / latents_NKD.norm(dim=-1).mean()
    require_finite(ratio[None], "the latent gain is")
    return LatentGain(torch.full((backbone.width,), float(ratio)))


@torch.no_grad()
def regress(
    backbone: Backbone, marker_D: torch.Tensor, start_SD: torch.Tensor, chunks: Sequence[np.ndarray]
) -> Regression:
    """Of the states of `start, x, marker, x` from the marker on, onto the second x; with whatever adapter is on.

    Raises NotFiniteError, of the states or of what they give.
    """
    width, device = backbone.width, backbone.device
    count, sums = 0, [torch.zeros(size, device=device) for size in (width, width, (width, width), (width, width))]
    for ids_BL in _of_one_length(chunks, device):
        states_ND, embeds_ND = (part.flatten(0, 1).float() for part in copying(backbone, marker_D, start_SD, ids_BL))
        require_finite(states_ND, "the states that the latent gain is measured on are")
        count += len(states_ND)
        parts = (states_ND.sum(0), embeds_ND.sum(0), states_ND.T @ states_ND, states_ND.T @ embeds_ND)
        for total, part in zip(sums, parts, strict=True):
            total += part
    centre_D, target_D = sums[0] / count, sums[1] / count
    own_DD = sums[2] / count - torch.outer(centre_D, centre_D)
    shared_DD = sums[3] / count - torch.outer(centre_D, target_D)
    ridge_DD = torch.eye(width, device=device) * RIDGE * own_DD.diagonal().mean()
    map_DD = STRETCH * torch.linalg.solve(own_DD + ridge_DD, shared_DD)
    require_finite(map_DD, "the latent gain's map is")
    return Regression(centre_D, map_DD.contiguous(), target_D)  # as it is read from a file: a product rounds the same


def copying(backbone: Backbone, marker_D, start_SD, ids_BL) -> tuple[torch.Tensor, torch.Tensor]:
    """States [B, L, D] at the marker and on, and the embeddings [B, L, D] of the tokens that come next."""
    text_BLD = backbone.embed(ids_BL)
    start_BSD, marker_B1D = (part.expand(len(ids_BL), -1, -1) for part in (start_SD, marker_D[None]))
    embeds = torch.cat([start_BSD, text_BLD, marker_B1D, text_BLD[:, :-1]], dim=1)
    hidden = backbone.body(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return hidden[:, -ids_BL.shape[1] :], text_BLD


def _of_one_length(chunks: Sequence[np.ndarray], device: torch.device):
    by_length = defaultdict(list)
    for chunk in chunks:
        by_length[len(chunk)].append(chunk)
    for same in by_length.values():
        for first in range(0, len(same), BATCH):
            yield torch.from_numpy(np.stack(same[first : first + BATCH])).to(device)
