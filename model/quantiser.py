"""A codec's quantiser at a rate: latents to the codes and scales of a row, and back.

Shapes: B chunks, K latents that are made, k latents that are stored, D hidden width, R values that are stored of a
latent (D, or as many as the codec has directions), C bytes of codes, G blocks of 64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model import few_bits, nf4
from model.finite import require_finite
from model.memory import Statistics
from model.rate import FULL, LEADING, STANDARDISED, Rate, row_sizes
from model.straight_through import rounded


class Quantiser:
    """Stores the first `latents` (k) of each chunk's, in `rate.bits` bits a value and 16 a block of 64."""

    def __init__(self, statistics: Statistics, num_latents: int, rate: Rate, device: torch.device):
        self.rate, self.latents = rate, rate.stored(num_latents)
        self.mean_D, self.deviation_D = statistics.mean_D.to(device), statistics.deviation_D.to(device)
        directions = statistics.directions_RD
        self._directions_RD = None if directions is None else directions.to(device, torch.float32)

    @property
    def name(self) -> str:
        """As a codec's settings name it, whatever the rate."""
        return STANDARDISED if self._directions_RD is None else f"{LEADING}{len(self._directions_RD)}"

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of a row's codes and of its scales."""
        return row_sizes(self.rate.quantiser(self.name), self.latents, len(self.mean_D))

    def standardise(self, latents_BKD: torch.Tensor) -> torch.Tensor:
        """float32, in deviations from each channel's mean."""
        return nf4.standardise(latents_BKD, self.mean_D, self.deviation_D)

    def quantise(self, latents_BKD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes uint8 [B, C] and scales float16 [B, G] of the first k latents, standardised. NotFiniteError."""
        values_BN, bits = self._projected(self.standardise(latents_BKD[:, : self.latents])).flatten(1), self.rate.bits
        codes_BC, scales_BG = nf4.quantise(values_BN) if bits == FULL else few_bits.quantise(values_BN, bits)
        require_finite(scales_BG, "the quantiser's scales are", rows="chunk")
        return codes_BC, scales_BG

    def packed(self, codes: Sequence[bytes], scales: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes [B, C] and scales [B, G] of rows, as they are stored, on the device."""
        codes_BC = np.stack([np.frombuffer(row, dtype=np.uint8) for row in codes])
        scales_BG = np.stack([np.frombuffer(row, dtype=np.float16) for row in scales])
        device = self.mean_D.device
        return torch.from_numpy(codes_BC).to(device), torch.from_numpy(scales_BG).to(device)

    def values(self, codes_BC: torch.Tensor, scales_BG: torch.Tensor) -> torch.Tensor:
        """float32 [B, k, D], standardised."""
        width = len(self.mean_D) if self._directions_RD is None else len(self._directions_RD)
        count, bits = self.latents * width, self.rate.bits
        if bits == FULL:
            values_BN = nf4.dequantise(codes_BC, scales_BG, count)
        else:
            values_BN = few_bits.dequantise(codes_BC, scales_BG, count, bits)
        return self._restored(values_BN.view(len(codes_BC), self.latents, width))

    def dequantise(self, codes_BC: torch.Tensor, scales_BG: torch.Tensor) -> torch.Tensor:
        """float32 latents [B, k, D], as recall reads them."""
        return nf4.restore(self.values(codes_BC, scales_BG), self.mean_D, self.deviation_D)

    def through(self, latents_BkD: torch.Tensor) -> torch.Tensor:
        """What recall would read of these latents, with the gradient that passes the rounding as if there were none.

        Where directions are stored, it is of what lies along them alone.
        """
        values_BkR = self._projected(self.standardise(latents_BkD))
        rounded_BkR = rounded(values_BkR.detach().flatten(1), self.rate.bits).view(values_BkR.shape)
        values_BkD = self._restored(values_BkR + (rounded_BkR - values_BkR.detach()))
        return nf4.restore(values_BkD, self.mean_D, self.deviation_D)

    def _projected(self, standard_BkD: torch.Tensor) -> torch.Tensor:
        return standard_BkD if self._directions_RD is None else standard_BkD @ self._directions_RD.T

    def _restored(self, values_BkR: torch.Tensor) -> torch.Tensor:
        return values_BkR if self._directions_RD is None else values_BkR @ self._directions_RD
