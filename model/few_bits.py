"""3 and 2 bits a value in blocks of 64, beside the 4 of model/nf4.py: a code times its block's largest magnitude.

The levels are those that err least, squared, on blocks of 64 normal values (Lloyd's algorithm on 25 million of them).
Root mean square error, in deviations: 0.092 with NF4; with 3 bits 0.178, with 2 bits 0.343. Levels made by NF4's own
recipe, which spends one on zero and two on the ends, give 0.202 and 0.563.
Shapes: B chunks, N values of a chunk, G = ceil(N / 64) blocks, C bytes of codes.
"""

from __future__ import annotations

import torch

from model.rate import BLOCK

LEVELS = {
    3: (-0.8309, -0.5124, -0.2858, -0.0923, 0.0923, 0.2858, 0.5124, 0.8309),
    2: (-0.5885, -0.1730, 0.1730, 0.5885),
}


def quantise(values_BN: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes uint8 [B, G * 8 * bits], little end first, and scales float16 [B, G]. Blocks never straddle rows."""
    nearest_BGC, scales_BG = nearest(values_BN, LEVELS[bits])
    shifts = torch.arange(bits, device=values_BN.device)
    ones = (nearest_BGC[..., None] >> shifts & 1).view(len(values_BN), -1, 8)
    codes_BC = (ones << torch.arange(8, device=values_BN.device)).sum(-1).to(torch.uint8)
    return codes_BC, scales_BG


def dequantise(codes_BC: torch.Tensor, scales_BG: torch.Tensor, num_values: int, bits: int) -> torch.Tensor:
    """float32 [B, num_values], what recall reads."""
    ones = codes_BC[..., None].long() >> torch.arange(8, device=codes_BC.device) & 1
    nearest_BGC = (ones.view(*scales_BG.shape, BLOCK, bits) << torch.arange(bits, device=codes_BC.device)).sum(-1)
    return levelled(nearest_BGC, scales_BG, LEVELS[bits])[:, :num_values]


def nearest(values_BN: torch.Tensor, levels: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest level's place int64 [B, G, 64] of each value in units of its block's largest, and scales [B, G]."""
    code = torch.tensor(levels, device=values_BN.device)
    padded_BM = torch.nn.functional.pad(values_BN.float(), (0, -values_BN.shape[1] % BLOCK))
    blocks_BGC = padded_BM.view(len(values_BN), -1, BLOCK)
    absmax_BG1 = blocks_BGC.abs().amax(-1, keepdim=True)
    scaled_BGC = (blocks_BGC * (1.0 / absmax_BG1.clamp_min(1e-38))).clamp(-1, 1)
    places_BGC = torch.bucketize(scaled_BGC, (code[1:] + code[:-1]) / 2)
    return places_BGC, absmax_BG1[..., 0].clamp_max(torch.finfo(torch.float16).max).to(torch.float16)


def levelled(places_BGC: torch.Tensor, scales_BG: torch.Tensor, levels: tuple[float, ...]) -> torch.Tensor:
    """float32 [B, G * 64] of levels' places: the level times the block's scale."""
    code = torch.tensor(levels, device=places_BGC.device)
    return (code[places_BGC] * scales_BG.float()[..., None]).flatten(1)
