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
TAILS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
AT_ONCE = 1000  # draws, whose counts are held


Column = Sequence[float | None]


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
    ValueError where the text helps in nothing.
    """
    return gap_over_sets([(nothing, text, other)], draws=draws, seed=seed)


def gap_over_sets(
    of_sets: Sequence[tuple[Column, Column, Column]], *, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """The mean over sets of each set's gap; a set is (nothing, text, other)."""
    gaps_SR, values = [], []
    for place, columns in enumerate(of_sets):
        whole = np.array([np.mean(column) for column in columns])
        if whole[0] == whole[1]:
            raise ValueError("the text helps the reader in nothing: there is no gap to close")
        values.append(_closed(whole))
        gaps_SR.append(_closed(means(columns, draws=draws, seed=of_set(seed, place)).T))
    gaps_R = np.mean(gaps_SR, axis=0)
    low, high = np.quantile(gaps_R[np.isfinite(gaps_R)], TAILS)
    return Interval(float(np.mean(values)), float(low), float(high), sum(len(columns[0]) for columns in of_sets))


def _closed(nothing_text_other: np.ndarray) -> np.ndarray:
    nothing, text, other = nothing_text_other
    with np.errstate(divide="ignore", invalid="ignore"):
        return (nothing - other) / (nothing - text)


def over_sets(of_sets: Sequence[Sequence[Column | None]], *, draws: int = DRAWS, seed: int = SEED) -> list[Interval]:
    """Means over sets of the means within each, of M columns at once: `of_sets[set][column]`, None where it is not.

    Every set is resampled by itself, with draws of its own. `n` of an interval counts the items of all sets. ValueError
    for a column that no set has, or without a value in a set that has it.
    """
    width = len(of_sets[0])
    sums_RM, there_M, items_M, values_M = np.zeros((draws, width)), *np.zeros((3, width))
    for place, columns in enumerate(of_sets):
        own = [m for m, column in enumerate(columns) if column is not None]
        if not own:
            continue
        some = [columns[m] for m in own]
        sums_RM[:, own] += means(some, draws=draws, seed=of_set(seed, place))
        there_M[own] += 1
        for m, column in zip(own, some, strict=True):
            known = [v for v in column if v is not None]
            items_M[m] += len(known)
            values_M[m] += np.mean(known)
    if not there_M.all():
        raise ValueError("there is nothing to draw from: no set has the column")
    low_M, high_M = np.nanquantile(sums_RM / there_M, TAILS, axis=0)
    ends = zip(values_M / there_M, low_M, high_M, items_M, strict=True)
    return [Interval(float(v), float(low), float(high), int(n)) for v, low, high, n in ends]


def of_set(seed: int, place: int) -> int:
    """The seed of one set among several: sets of as many items would share their draws otherwise."""
    return seed + 1_000_003 * place


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
    low, high = np.nanquantile(drawn_R, TAILS)
    return Interval(float(np.mean(there)), float(low), float(high), len(there))


def _counts(items: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each item is in each resample, float64 [up to AT_ONCE, N], the same for the same number of items."""
    for first in range(0, draws, AT_ONCE):
        yield _some_counts(items, min(AT_ONCE, draws - first), seed, first).astype(np.float64)


@lru_cache(maxsize=32)
def _some_counts(items: int, draws: int, seed: int, first: int) -> np.ndarray:
    drawn = np.random.default_rng([seed, items, first]).multinomial(items, np.full(items, 1 / items), size=draws)
    return drawn.astype(np.uint16)
