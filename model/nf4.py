"""4-bit NormalFloat for latents. Shapes: B chunks, K latents, D hidden width, N = K * D values, G = ceil(N / 64).

A few channels of a hidden state are ten times larger than the rest and ruin flat blocks, so each channel is first
standardised with a mean and deviation measured once and stored with the codec (docs/benchmarks.md has the table).
Source of the code book: bitsandbytes `quantize_4bit(quant_type="nf4")`.
"""

from __future__ import annotations

import torch

from model.rate import BLOCK

DEVIATION_FLOOR = 1e-4  # a channel that never moves would divide by zero


def standardise(latents_BKD: torch.Tensor, mean_D: torch.Tensor, deviation_D: torch.Tensor) -> torch.Tensor:
    return (latents_BKD.float() - mean_D) / deviation_D.clamp_min(DEVIATION_FLOOR)


def restore(standard_BKD: torch.Tensor, mean_D: torch.Tensor, deviation_D: torch.Tensor) -> torch.Tensor:
    return standard_BKD * deviation_D.clamp_min(DEVIATION_FLOOR) + mean_D


def quantise(values_BN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes uint8 [B, G * 32], two a byte, and scales float16 [B, G]: 4.25 bits a value. Blocks never straddle rows."""
    import bitsandbytes.functional as bnb  # here, because training runs where it is not installed

    padded_BM = _whole_blocks(values_BN.float())
    codes, state = bnb.quantize_4bit(padded_BM.contiguous(), quant_type="nf4", blocksize=BLOCK)
    scales = state.absmax.clamp_max(torch.finfo(torch.float16).max).to(torch.float16)
    return codes.view(len(values_BN), -1), scales.view(len(values_BN), -1)


def dequantise(codes_BC: torch.Tensor, scales_BG: torch.Tensor, num_values: int) -> torch.Tensor:
    """float32 [B, num_values], what recall reads."""
    import bitsandbytes.functional as bnb

    shape = torch.Size((len(codes_BC), scales_BG.shape[1] * BLOCK))
    state = bnb.QuantState(
        absmax=scales_BG.float().reshape(-1),
        shape=shape,
        code=bnb.get_4bit_type("nf4", device=codes_BC.device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch.float32,
    )
    return bnb.dequantize_4bit(codes_BC.reshape(-1, 1), state).view(shape)[:, :num_values]


def _whole_blocks(values_BN: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(values_BN, (0, -values_BN.shape[1] % BLOCK))
