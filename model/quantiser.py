"""A codec's quantiser at a rate: latents to the codes and scales of a row, and back.

Shapes: B chunks, K latents that are made, k latents that are stored, D hidden width, C bytes of codes, G blocks of 64.
"""

from __future__ import annotations

import torch

from model import few_bits, nf4
from model.finite import require_finite
from model.memory import Statistics
from model.rate import FULL, Rate
from model.straight_through import rounded


class Quantiser:
    """Stores the first `latents` (k) of each chunk's, in `rate.bits` bits a value and 16 a block of 64."""

    def __init__(self, statistics: Statistics, num_latents: int, rate: Rate, device: torch.device):
        self.rate, self.latents = rate, rate.stored(num_latents)
        self.mean_D, self.deviation_D = statistics.mean_D.to(device), statistics.deviation_D.to(device)

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of a row's codes and of its scales."""
        blocks = -(-self._values // nf4.BLOCK)
        return blocks * nf4.BLOCK * self.rate.bits // 8, 2 * blocks

    @property
    def _values(self) -> int:
        return self.latents * len(self.mean_D)

    def standardise(self, latents_BKD: torch.Tensor) -> torch.Tensor:
        """float32, in deviations from each channel's mean."""
        return nf4.standardise(latents_BKD, self.mean_D, self.deviation_D)

    def quantise(self, latents_BKD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes uint8 [B, C] and scales float16 [B, G] of the first k latents, standardised. NotFiniteError."""
        values_BN = self.standardise(latents_BKD[:, : self.latents]).flatten(1)
        bits = self.rate.bits
        codes_BC, scales_BG = nf4.quantise(values_BN) if bits == FULL else few_bits.quantise(values_BN, bits)
        require_finite(scales_BG, "the quantiser's scales are", rows="chunk")
        return codes_BC, scales_BG

    def values(self, codes_BC: torch.Tensor, scales_BG: torch.Tensor) -> torch.Tensor:
        """float32 [B, k, D], standardised."""
        bits = self.rate.bits
        if bits == FULL:
            values_BN = nf4.dequantise(codes_BC, scales_BG, self._values)
        else:
            values_BN = few_bits.dequantise(codes_BC, scales_BG, self._values, bits)
        return values_BN.view(len(codes_BC), self.latents, -1)

    def dequantise(self, codes_BC: torch.Tensor, scales_BG: torch.Tensor) -> torch.Tensor:
        """float32 latents [B, k, D], as recall reads them."""
        return nf4.restore(self.values(codes_BC, scales_BG), self.mean_D, self.deviation_D)

    def through(self, latents_BkD: torch.Tensor) -> torch.Tensor:
        """What recall would read of these latents, with the gradient of the identity: model/straight_through.py."""
        standard_BkD = self.standardise(latents_BkD.detach())
        values_BkD = rounded(standard_BkD.flatten(1), self.rate.bits).view(latents_BkD.shape)
        stored_BkD = nf4.restore(values_BkD, self.mean_D, self.deviation_D)
        return latents_BkD.float() + (stored_BkD - latents_BkD.detach().float())
