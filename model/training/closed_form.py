"""Where both sides of a head begin: the best linear map from mean items to the teacher's vectors, in closed form.

Some thousand passages are few for gradient steps from nothing; ridge regression finds what they tell at once
(docs/search.md). Its sums are gathered a batch at a time, so memory is D * D, whatever the number of texts.
Shapes: B texts, D width of items, E of embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # parts of the inputs' mean square; the held-out texts choose


@dataclass(frozen=True, slots=True)
class LinearMap:
    """Inputs [B, D] to inputs @ weight_DE + bias_E."""

    weight_DE: torch.Tensor
    bias_E: torch.Tensor

    def __call__(self, inputs_BD: torch.Tensor) -> torch.Tensor:
        return inputs_BD @ self.weight_DE + self.bias_E


def fitted(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    held_out: tuple[torch.Tensor, torch.Tensor],
    ridges: Sequence[float] = RIDGES,
) -> LinearMap:
    """The map of inputs [B, D] to vectors [B, E] whose cosine to the held-out vectors is best among the ridges'."""
    inputs_BD, vectors_BE = held_out
    return max(_maps(batches, ridges), key=lambda found: _cosine(found(inputs_BD), vectors_BE))


def _maps(batches: Iterable[tuple[torch.Tensor, torch.Tensor]], ridges: Sequence[float]) -> list[LinearMap]:
    count, squares_DD, products_DE, input_D, vector_E = 0, 0.0, 0.0, 0.0, 0.0
    for inputs_BD, vectors_BE in batches:
        inputs_BD, vectors_BE = inputs_BD.double(), vectors_BE.double()
        count += len(inputs_BD)
        squares_DD += inputs_BD.T @ inputs_BD
        products_DE += inputs_BD.T @ vectors_BE
        input_D += inputs_BD.sum(0)
        vector_E += vectors_BE.sum(0)
    mean_D, mean_E = input_D / count, vector_E / count
    squares_DD = squares_DD - count * torch.outer(mean_D, mean_D)
    products_DE = products_DE - count * torch.outer(mean_D, mean_E)
    damping_DD = squares_DD.diagonal().mean() * torch.eye(len(squares_DD), dtype=torch.float64)
    weights = [torch.linalg.solve(squares_DD + ridge * damping_DD, products_DE) for ridge in ridges]
    return [LinearMap(weight_DE.float(), (mean_E - mean_D @ weight_DE).float()) for weight_DE in weights]


def _cosine(found_BE: torch.Tensor, vectors_BE: torch.Tensor) -> float:
    return (normalize(found_BE, dim=-1) * vectors_BE).sum(-1).mean().item()
