"""Paired bootstrap intervals: what a figure might have been over other questions of the same kind.

Every figure over the same items draws the same resamples, so that a difference of two systems is drawn item by item:
how hard an item is for both falls out. Shapes: N items, M columns, R draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DRAWS, SEED = 10_000, 0
LEVEL = 0.95
AT_ONCE = 1000  # draws, whose counts are held


@dataclass(frozen=True, slots=True)
class Interval:
    value: float
    low: float
    high: float
    n: int  # items that counted


def interval(values: Sequence[float | None], *, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """The mean of an item's values and where 95 % of resampled means lie. None counts for nothing.

    ValueError where no item has a value.
    """
    return _between(values, means([values], draws=draws, seed=seed)[:, 0])


def difference(
    left: Sequence[float | None], right: Sequence[float | None], *, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """Of the means over the items that have both values, in the same order.

    ValueError where none has, or where there are not as many of both.
    """
    gaps = [None if a is None or b is None else a - b for a, b in zip(left, right, strict=True)]
    return interval(gaps, draws=draws, seed=seed)


def gap_closed(
    nothing: Sequence[float], text: Sequence[float], other: Sequence[float], *, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """(nothing - other) / (nothing - text) of means over the same items: 0 is no help at all, 1 is as good as the text.

    A ratio of means, not a mean of ratios: one question that the text does not help would outweigh all the others.
    """
    drawn = means([nothing, text, other], draws=draws, seed=seed)
    whole = [float(np.mean(values)) for values in (nothing, text, other)]
    if whole[0] == whole[1]:
        raise ValueError("the text helps the reader in nothing: there is no gap to close")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn[:, 0] - drawn[:, 2]) / (drawn[:, 0] - drawn[:, 1])
    low, high = np.quantile(ratios[np.isfinite(ratios)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval((whole[0] - whole[2]) / (whole[0] - whole[1]), float(low), float(high), len(nothing))


def means(columns: Sequence[Sequence[float | None]], *, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """float64 [R, M]: the mean of each column in each resample of the items; NaN where a resample has no value."""
    values_NM = np.array([[np.nan if v is None else v for v in column] for column in columns], dtype=np.float64).T
    there_NM = ~np.isnan(values_NM)
    if not there_NM.any(axis=0).all():
        raise ValueError("there is nothing to draw from: no item has a value")
    filled_NM = np.where(there_NM, values_NM, 0.0)
    with np.errstate(invalid="ignore"):
        return np.concatenate(
            [(counts @ filled_NM) / (counts @ there_NM) for counts in _counts(len(values_NM), draws, seed)]
        )


def _between(values: Sequence[float | None], drawn_R: np.ndarray) -> Interval:
    there = [v for v in values if v is not None]
    low, high = np.nanquantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.mean(there)), float(low), float(high), len(there))


def _counts(items: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each item is in each resample, float64 [up to AT_ONCE, N], the same for the same number of items."""
    for first in range(0, draws, AT_ONCE):
        yield _some_counts(items, min(AT_ONCE, draws - first), seed, first).astype(np.float64)


@lru_cache(maxsize=32)
def _some_counts(items: int, draws: int, seed: int, first: int) -> np.ndarray:
    drawn = np.random.default_rng([seed, items, first]).multinomial(items, np.full(items, 1 / items), size=draws)
    return drawn.astype(np.uint16)
