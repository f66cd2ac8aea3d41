"""NF4 as bitsandbytes stores it, in plain torch, for a machine that has none.

Shapes: B chunks, N values of a chunk, G = ceil(N / 64) blocks. A test holds codes and scales equal to bitsandbytes'.
"""

from __future__ import annotations

import torch

from model import nf4
from model.nf4 import BLOCK
from model.straight_through import CODE_BOOK


def use_where_needed() -> str:
    """Let the codec quantise with this where bitsandbytes cannot be imported. Returns the name of what is used."""
    try:
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        nf4.quantise, nf4.dequantise = quantise, dequantise
        return "plain torch"
    return "bitsandbytes"


def quantise(values_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes uint8 [B, G * 32], the first of two in the high bits, and scales float16 [B, G]."""
    padded_BM = torch.nn.functional.pad(values_BN.float(), (0, -values_BN.shape[1] % BLOCK))
    blocks_BGC = padded_BM.view(len(values_BN), -1, BLOCK)
    absmax_BG1 = blocks_BGC.abs().amax(-1, keepdim=True)
    code = torch.tensor(CODE_BOOK, device=values_BN.device)
    scaled_BGC = (blocks_BGC * (1.0 / absmax_BG1.clamp_min(1e-38))).clamp(-1, 1)
    nearest_BM = torch.bucketize(scaled_BGC, (code[1:] + code[:-1]) / 2).flatten(1).to(torch.uint8)
    scales_BG = absmax_BG1[..., 0].clamp_max(torch.finfo(torch.float16).max).to(torch.float16)
    return nearest_BM[:, 0::2] << 4 | nearest_BM[:, 1::2], scales_BG


def dequantise(codes_BC: torch.Tensor, scales_BG: torch.Tensor, num_values: int) -> torch.Tensor:
    """float32 [B, num_values]"""
    code = torch.tensor(CODE_BOOK, device=codes_BC.device)
    nearest_BM = torch.stack([codes_BC >> 4, codes_BC & 15], dim=-1).flatten(1).long()
    scales_BM = scales_BG.float().repeat_interleave(BLOCK, dim=1)
    return (code[nearest_BM] * scales_BM)[:, :num_values]
