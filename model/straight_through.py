"""The quantiser in plain torch, for training with it in the loop: forward rounds, backward passes gradients through.

At 4 bits equal to what bitsandbytes stores and reads back (a test holds it), without needing it installed.
Shapes: B chunks, K latents, D hidden width, N = K * D values. Source of the code book: QLoRA (arXiv 2305.14314).
"""

from __future__ import annotations

import torch

from model.few_bits import LEVELS, levelled, nearest
from model.nf4 import restore, standardise
from model.rate import FULL

CODE_BOOK = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def through_nf4(latents_BKD: torch.Tensor, mean_D: torch.Tensor, deviation_D: torch.Tensor) -> torch.Tensor:
    """What recall would read of these latents, float32 [B, K, D], with the gradient of the identity."""
    standard_BKD = standardise(latents_BKD.detach(), mean_D, deviation_D)
    rounded_BKD = restore(rounded(standard_BKD.flatten(1)).view(latents_BKD.shape), mean_D, deviation_D)
    return latents_BKD.float() + (rounded_BKD - latents_BKD.detach().float())


def rounded(values_BN: torch.Tensor, bits: int = FULL) -> torch.Tensor:
    """float32 [B, N] rounded in blocks of 64: the code times the block's largest magnitude, held in float16."""
    levels = CODE_BOOK if bits == FULL else LEVELS[bits]
    return levelled(*nearest(values_BN, levels), levels)[:, : values_BN.shape[1]]
