"""Means over sets: sets weigh alike, and each is resampled by itself."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evaluate.bootstrap import gap_over_sets, interval, over_sets
from jobs.evaluate.overall import SETS, overall, overall_differences
from jobs.evaluate.results import Figure

DRAWS = 2000


def figure(system: str, of: str, values: list, metric: str = "f1", task: str = "reconstruct", **at) -> Figure:
    return Figure(task, system, of, metric, 0.0, 0.0, 0.0, len(values), at, values)


def test_sets_weigh_alike_however_many_items_each_has():
    few, many = [1.0, 0.0], [0.0] * 50
    [span] = over_sets([[few], [many]], draws=DRAWS)
    assert span.value == pytest.approx(0.25) and span.n == 52 and 0 <= span.low < 0.25 < span.high <= 0.5


def test_sets_of_as_many_items_do_not_share_their_draws():
    values = np.random.default_rng(0).random(60).tolist()
    one, [two] = interval(values, draws=DRAWS), over_sets([[values], [values]], draws=DRAWS)
    assert two.value == pytest.approx(one.value)
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(2**-0.5, abs=0.06)  # 1 if they were shared


def test_a_column_counts_where_it_is_and_one_that_is_nowhere_is_refused():
    [both, one] = over_sets([[[1.0], [0.5]], [[0.0], None]], draws=50)
    assert (both.value, both.n, one.value, one.n) == (0.5, 2, 0.5, 1)
    with pytest.raises(ValueError, match="no set has the column"):
        over_sets([[None, [1.0]]], draws=50)


def test_a_gap_over_sets_is_the_mean_of_each_set_s_gap():
    halfway, whole = ([4.0, 4.0], [2.0, 2.0], [3.0, 3.0]), ([3.0], [1.0], [1.0])
    assert gap_over_sets([halfway, whole], draws=50).value == pytest.approx(0.75)


def test_what_one_set_alone_has_is_no_figure_over_sets():
    figures = [figure("a", "x", [0.2, 0.4]), figure("a", "y", [0.6]), figure("b", "x", [0.1, 0.1])]
    [found] = overall(figures, draws=50, seed=0)
    assert (found.system, found.set, found.metric) == ("a", SETS, "f1") and found.value == pytest.approx(0.45)


def test_a_difference_over_sets_pairs_the_items_of_each():
    figures = [
        *(figure("a", of, [0.5, 0.9]) for of in ("x", "y")),
        *(figure("b", of, [0.4, 0.8]) for of in ("x", "y")),
        figure("b", "z", [0.0]),  # a was not measured there
    ]
    [found] = overall_differences(figures, "a", draws=50, seed=0)
    assert (found.system, found.other, found.n) == ("a", "b", 4)
    assert found.value == found.low == found.high == pytest.approx(0.1)  # an item is as hard for both


def test_gaps_over_sets_stand_among_the_figures_of_answering():
    def nats(system, of, values, source):
        return figure(system, of, values, "nats", "answer", **{"from": source})

    figures = [
        nats(system, of, values, source)
        for of in ("x", "y")
        for system, source, values in (
            ("reader", "nothing", [4.0, 5.0]), ("reader", "text", [2.0, 3.0]), ("a", "latents", [3.5, 4.5]),
        )
    ]  # fmt: skip
    [gap] = [f for f in overall(figures, draws=50, seed=0) if f.metric == "gap"]
    assert (gap.system, gap.at, gap.value) == ("a", {"from": "latents"}, pytest.approx(0.25))
