"""Intervals: of the mean, of differences item by item, and of the share of a gap."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evaluate.bootstrap import difference, gap_closed, interval, means

VALUES = np.random.default_rng(7).random(80).tolist()


def test_an_interval_is_about_two_standard_errors_wide_on_each_side():
    found = interval(VALUES)
    error = np.std(VALUES) / np.sqrt(len(VALUES))
    assert found.value == pytest.approx(np.mean(VALUES)) and found.n == 80
    assert (found.high - found.value) / error == pytest.approx(1.96, abs=0.1)
    assert (found.value - found.low) / error == pytest.approx(1.96, abs=0.1)


def test_the_same_seed_draws_the_same_and_another_does_not():
    assert interval(VALUES) == interval(VALUES)
    assert interval(VALUES, seed=1) != interval(VALUES)


def test_items_without_a_value_count_for_nothing():
    some = [v if i % 2 else None for i, v in enumerate(VALUES)]
    found = interval(some)
    assert found.n == 40 and found.value == pytest.approx(np.mean(VALUES[1::2]))
    with pytest.raises(ValueError, match="no item has a value"):
        interval([None, None])


def test_a_constant_difference_is_certain_though_both_sides_are_not():
    found = difference([v + 0.1 for v in VALUES], VALUES, draws=1000)
    assert found.low == pytest.approx(0.1) and found.high == pytest.approx(0.1)
    assert interval(VALUES).high - interval(VALUES).low > 0.05


def test_a_difference_is_over_the_items_that_both_have():
    found = difference([1.0, None, 3.0], [0.0, 5.0, None])
    assert (found.value, found.n) == (1.0, 1)
    with pytest.raises(ValueError):
        difference([1.0], [1.0, 2.0])


def test_the_gap_is_one_for_the_text_itself_and_nought_for_nothing():
    nothing, text = [v + 3 for v in VALUES], [v + 1 for v in VALUES]
    half = [v + 2 for v in VALUES]
    assert gap_closed(nothing, text, text, draws=500).value == pytest.approx(1)
    assert gap_closed(nothing, text, nothing, draws=500).value == pytest.approx(0)
    found = gap_closed(nothing, text, half, draws=500)
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="no gap to close"):
        gap_closed(text, text, half)


def test_columns_are_drawn_with_the_same_resamples():
    drawn_RM = means([VALUES, [2 * v for v in VALUES]], draws=50)
    assert drawn_RM.shape == (50, 2)
    assert np.allclose(drawn_RM[:, 1], 2 * drawn_RM[:, 0])
