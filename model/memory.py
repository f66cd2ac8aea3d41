"""What a codec makes and reads, as records: memories, what recall gives back, and the statistics of its latents.

Shapes: L text tokens, K latents, D hidden width, E embedding width, R directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from model.refine import Refining


@dataclass(frozen=True, slots=True)
class Memory:
    """What one chunk becomes."""

    codes: bytes  # uint8 [K * D / 2]
    scales: bytes  # float16 [K * D / 64]
    embedding_E: np.ndarray  # float32, L2 norm 1
    fidelity: float | None  # share of positions greedy decoding gets right; None if not verified
    patch: bytes | None  # PatchFormat; None if not verified
    refining: Refining | None = None  # None: the latents are the encoder's, none better were looked for


@dataclass(frozen=True, slots=True)
class StoredMemory:
    """What recall needs of a row. `matches` says whether token ids are the ones that were encoded."""

    codes: bytes
    scales: bytes
    num_tokens: int
    patch: bytes | None
    matches: Callable[[np.ndarray], bool]


@dataclass(frozen=True, slots=True)
class Recollection:
    """Tokens recalled from a memory."""

    token_ids: np.ndarray  # int64 [L]
    exact: bool  # they are the ones that were encoded
    carried: float | None  # share of the positions that the latents decide, the patch aside; None if not verified


@dataclass(frozen=True, slots=True)
class Statistics:
    """Measured once and stored with the codec. Mean and deviation are float32."""

    mean_D: torch.Tensor
    deviation_D: torch.Tensor
    projection_DE: torch.Tensor | None  # orthogonal columns; None where D already fits
    directions_RD: torch.Tensor | None = None  # orthonormal rows: what is stored of a latent (model/leading.py)
