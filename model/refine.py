"""Better latents for chunks that are known: a few optimizer steps on the latents alone, towards the chunk's own text.

The encoder's latents are a first guess. Here the decoder is frozen and only the latents move, in units of each
channel's deviation, with the quantiser in the loop. A step is one forward and backward of the decoder. Its forward
also verifies the latents that it starts from, so the patch that each of them needs is known: the best that were seen
are kept, never the last, and a chunk that needs no patch leaves the batch for the next one to come in. Nothing of the
codec changes: a refined row is read as any other.

Shapes: B chunks, L text tokens, K latents that a row stores, D hidden width, R positions of a slice, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.config import RefineConfig
from model.latents import HEAD_ROWS, rival
from model.nf4 import DEVIATION_FLOOR
from model.patch import NOTHING

if TYPE_CHECKING:
    from model.codec import Codec

ON_A_GPU, ON_A_CPU = 64, 16  # chunks at once: a chunk's graph takes about 170 MB with SmolLM2-135M in bf16
RATE = 0.1  # deviations of a channel at the first step; it falls to nothing after the last
MOMENTUM = 0.7
SMALLEST = 1e-4  # of a gradient's largest direction: smaller ones are noise
TINY = 1e-30
REACH = 3.0  # logits above the margin below which a position still pulls


@dataclass(frozen=True, slots=True)
class Refining:
    """What refining did to one chunk. `before` is of the encoder's latents, quantised."""

    steps: int  # that were made; 0 where the encoder's latents are right, or are kept for not being `finite`
    finite: bool  # False: NaN or infinity came up, and the encoder's latents are kept
    fidelity_before: float
    patch_bytes_before: int


@dataclass(frozen=True, slots=True)
class Refined:
    """Latents float32 [B, K, D], the best that were seen, and what was done to each chunk."""

    latents_BKD: torch.Tensor
    refinings: list[Refining]


def refine(codec: Codec, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray], config: RefineConfig) -> Refined:
    """The latents with the smallest patches seen in at most `config.steps` steps for each chunk.

    The codec must have switched to its decoder. Raises torch.OutOfMemoryError as it comes.
    """
    size = config.batch_size or (ON_A_CPU if codec.backbone.device.type == "cpu" else ON_A_GPU)
    with torch.inference_mode(False), torch.enable_grad():  # a graph holds nothing that inference mode has made
        start_BKD = latents_BKD.float().clone()
        searches = [_Search(start_KD) for start_KD in start_BKD]
        waiting = deque(range(len(chunks)))
        moving = _Moving.nobody(start_BKD)
        unit_D = codec.statistics.deviation_D.to(start_BKD).clamp_min(DEVIATION_FLOOR)
        while waiting or moving.which:
            come = [waiting.popleft() for _ in range(min(size - len(moving.which), len(waiting)))]
            moving = moving.joined(come, start_BKD[come])
            seen = _look(codec, moving.latents_BKD, [chunks[i] for i in moving.which])
            on = [row for row, i in enumerate(moving.which) if searches[i].goes_on(codec, chunks[i], seen, row, config)]
            moving = moving.only(on)
            moving.step(seen.gradient_BKD[on], unit_D, config.steps)
    return Refined(torch.stack([each.best_KD for each in searches]), [each.refining() for each in searches])


@dataclass(frozen=True, slots=True)
class _Seen:
    """A batch of latents as the decoder reads them."""

    latents_BKD: torch.Tensor
    lead_BL: np.ndarray  # logits, of each chunk's tokens and of the end after them
    gradient_BKD: torch.Tensor
    finite_B: np.ndarray


@dataclass(slots=True)
class _Search:
    """One chunk's: where it began, the best since, and how far it is."""

    start_KD: torch.Tensor
    best_KD: torch.Tensor | None = None
    cost: tuple[int, bool, float] = (0, False, 0.0)  # of the best: bytes of patch, no end after the text, less fidelity
    before: tuple[float, bytes] = (0.0, b"")
    steps: int = 0
    finite: bool = True

    def goes_on(self, codec: Codec, chunk: np.ndarray, seen: _Seen, row: int, config: RefineConfig) -> bool:
        """Take note of latents; whether another step may make them better."""
        if not seen.finite_B[row]:
            self.best_KD, self.steps, self.finite = self.start_KD, 0, False
            return False
        fidelity, patch = codec.judge(seen.lead_BL[row, : len(chunk)], chunk)
        if self.best_KD is None:
            self.before = fidelity, patch
        cost = len(patch), not seen.lead_BL[row, len(chunk)] > 0, -fidelity
        if self.best_KD is None or cost < self.cost:
            self.best_KD, self.cost = seen.latents_BKD[row].clone(), cost
        if patch == NOTHING or self.steps == config.steps:
            return False
        self.steps += 1
        return True

    def refining(self) -> Refining:
        return Refining(self.steps, self.finite, self.before[0], len(self.before[1]))


@dataclass(slots=True)
class _Moving:
    """The chunks of the batch, each at its own step."""

    which: list[int]
    latents_BKD: torch.Tensor
    momentum_BKD: torch.Tensor  # of gradients, each chunk's brought to one size
    steps_B: torch.Tensor

    @classmethod
    def nobody(cls, like_BKD: torch.Tensor) -> _Moving:
        none_BKD = like_BKD[:0]
        return cls([], none_BKD, none_BKD, none_BKD.new_zeros(0))

    def joined(self, which: list[int], start_BKD: torch.Tensor) -> _Moving:
        zeros_BKD = torch.zeros_like(start_BKD)
        return _Moving(
            [*self.which, *which],
            torch.cat([self.latents_BKD, start_BKD]),
            torch.cat([self.momentum_BKD, zeros_BKD]),
            torch.cat([self.steps_B, zeros_BKD.new_zeros(len(which))]),
        )

    def only(self, rows: list[int]) -> _Moving:
        parts = (self.latents_BKD, self.momentum_BKD, self.steps_B)
        return _Moving([self.which[row] for row in rows], *(part[rows] for part in parts))

    def step(self, gradient_BKD: torch.Tensor, unit_D: torch.Tensor, most: int) -> None:
        """In units of each channel's deviation, at a rate that falls with each chunk's own steps."""
        gradient_BKD = gradient_BKD * unit_D
        size_B11 = gradient_BKD.square().mean((1, 2), keepdim=True).sqrt()
        self.momentum_BKD.lerp_(gradient_BKD / size_B11.clamp_min(TINY), 1 - MOMENTUM)
        rate_B11 = (RATE * (1 - self.steps_B / most))[:, None, None]
        self.latents_BKD -= unit_D * rate_B11 * _orthogonal(self.momentum_BKD)
        self.steps_B += 1


def _orthogonal(moved_BKD: torch.Tensor) -> torch.Tensor:
    """The same directions, all of one size, with a mean square of 1: U @ V of each chunk's U @ S @ V.

    A chunk's gradient lies mostly along a few directions, in which the loudest positions pull; a step that follows them
    leaves the rest where it was. Source: the update of the optimizer Muon; K is small, so that it is exact here.
    """
    wide_BKD = moved_BKD.double()
    squares_BK, turn_BKK = torch.linalg.eigh(wide_BKD @ wide_BKD.mT)
    floor_B1 = squares_BK[:, -1:].clamp_min(TINY) * SMALLEST**2
    whiten_BKK = turn_BKK * squares_BK.clamp_min(floor_B1).rsqrt()[:, None] @ turn_BKK.mT
    return (whiten_BKK @ wide_BKD).to(moved_BKD) * moved_BKD.shape[-1] ** 0.5


def _look(codec: Codec, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray]) -> _Seen:
    """Read the chunks' own text after the latents: each token's lead, and the gradient of what is still to be won.

    The end-of-text after a text is pulled too, so that a draft of the latents alone ends where it should. No patch
    needs it: a row knows its length.
    """
    text_BL, lengths_B = codec.pad(chunks)
    ids_BL = torch.nn.functional.pad(text_BL, (0, 1))
    ids_BL[torch.arange(len(chunks), device=ids_BL.device), lengths_B] = codec.backbone.end_token
    moved_BKD = latents_BKD.detach().requires_grad_(True)
    prefix_BSD = codec.prefix(codec.quantiser.through(moved_BKD))
    embeds = torch.cat([prefix_BSD, codec.backbone.embed(ids_BL[:, :-1])], dim=1)
    hidden = codec.backbone.body(inputs_embeds=embeds, use_cache=False).last_hidden_state
    states_BLD = hidden[:, prefix_BSD.shape[1] - 1 :]
    real_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device) <= lengths_B[:, None]
    lead_BL, pull_BLD = _pull(codec, states_BLD.detach(), ids_BL, real_BL)
    (gradient_BKD,) = torch.autograd.grad(states_BLD, moved_BKD, pull_BLD)
    finite_B = (lead_BL.isfinite() | ~real_BL).all(1) & gradient_BKD.isfinite().flatten(1).all(1)
    return _Seen(moved_BKD.detach(), lead_BL.cpu().numpy(), gradient_BKD, finite_B.cpu().numpy())


@torch.no_grad()
def _pull(codec: Codec, states_BLD, ids_BL, real_BL) -> tuple[torch.Tensor, torch.Tensor]:
    """Leads [B, L], and the gradient [B, L, D] of the cross-entropy summed over the positions that lead by too little.

    HEAD_ROWS positions' logits exist at once. What leads by enough costs no patch, and would only hold the rest back.
    """
    states_ND, pull_ND = states_BLD.flatten(0, 1), torch.zeros_like(states_BLD).flatten(0, 1)
    lead_N = torch.zeros(len(states_ND), device=states_ND.device)
    weight_VD = codec.backbone.head.weight
    for first in range(0, len(states_ND), HEAD_ROWS):
        rows = slice(first, first + HEAD_ROWS)
        ids_R = ids_BL.flatten()[rows]
        logits_RV = codec.backbone.head(states_ND[rows])
        own_R1 = logits_RV.gather(-1, ids_R[:, None])
        _, lead_N[rows] = rival(logits_RV, ids_R)
        logits_RV.scatter_(-1, ids_R[:, None], own_R1)
        wanting = (real_BL.flatten()[rows] & (lead_N[rows] <= codec.verifying.margin + REACH)).nonzero()[:, 0]
        error_WV = logits_RV[wanting].float().softmax(-1)
        error_WV.scatter_add_(-1, ids_R[wanting, None], torch.full_like(error_WV[:, :1], -1.0))
        pull_ND[first + wanting] = error_WV.to(weight_VD.dtype) @ weight_VD
    return lead_N.view_as(ids_BL), pull_ND.view_as(states_BLD)
