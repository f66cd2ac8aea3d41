"""NF4 in plain torch, for training with the quantiser in the loop: forward rounds, backward passes gradients through.

Equal to what bitsandbytes stores and reads back (a test holds it), without needing it installed.
Shapes: B chunks, K latents, D hidden width, N = K * D values. Source of the code book: QLoRA (arXiv 2305.14314).
"""

from __future__ import annotations

import torch

from model.nf4 import BLOCK, restore, standardise

CODE_BOOK = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def through_nf4(latents_BKD: torch.Tensor, mean_D: torch.Tensor, deviation_D: torch.Tensor) -> torch.Tensor:
    """What recall would read of these latents, float32 [B, K, D], with the gradient of the identity."""
    values_BN = standardise(latents_BKD.detach(), mean_D, deviation_D).flatten(1)
    rounded_BKD = restore(round_nf4(values_BN).view(latents_BKD.shape), mean_D, deviation_D)
    return latents_BKD.float() + (rounded_BKD - latents_BKD.detach().float())


def round_nf4(values_BN: torch.Tensor) -> torch.Tensor:
    """float32 [B, N] rounded in blocks of 64: the code times the block's largest magnitude, held in float16."""
    code = torch.tensor(CODE_BOOK, device=values_BN.device)
    padded_BM = torch.nn.functional.pad(values_BN.float(), (0, -values_BN.shape[1] % BLOCK))
    blocks_BGC = padded_BM.view(len(values_BN), -1, BLOCK)
    absmax_BG1 = blocks_BGC.abs().amax(-1, keepdim=True)
    scaled_BGC = (blocks_BGC * (1.0 / absmax_BG1.clamp_min(1e-38))).clamp(-1, 1)
    nearest_BGC = torch.bucketize(scaled_BGC, (code[1:] + code[:-1]) / 2)
    scales_BG1 = absmax_BG1.clamp_max(torch.finfo(torch.float16).max).to(torch.float16)
    return (code[nearest_BGC] * scales_BG1.float()).flatten(1)[:, : values_BN.shape[1]]
