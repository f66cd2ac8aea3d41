"""Which chunks are computed together: groups of nearly one length, made by what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 1e9  # positions; a batch that costs so much is made only where the batches before it are full


def batches(lengths: Sequence[int], size: int, *, batch_cost: float = FEWEST) -> list[list[int]]:
    """Indices in groups of at most `size` chunks, longest first, such that all groups together cost the least.

    A group costs the positions of its longest chunk times its chunks, padding among them, and beside them `batch_cost`
    positions, whatever it holds. Without that: the fewest groups, and among those the least padding. The cheapest
    partition of the sorted lengths is found exactly, in O(n * size).
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    longest_N = np.array([lengths[i] for i in order], dtype=np.float64)
    least, first = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=int)
    for end in range(1, len(order) + 1):
        starts = np.arange(max(0, end - size), end)
        costs = least[starts] + longest_N[starts] * (end - starts) + batch_cost
        cheapest = int(costs.argmin())
        least[end], first[end] = costs[cheapest], starts[cheapest]
    groups, end = [], len(order)
    while end:
        groups.append(order[first[end] : end])
        end = first[end]
    return groups[::-1]


def padding_share(lengths: Sequence[int], groups: Sequence[Sequence[int]]) -> float:
    """Share of the computed text positions that are padding."""
    computed = sum(max(lengths[i] for i in group) * len(group) for group in groups)
    return 1.0 - sum(lengths) / computed if computed else 0.0
