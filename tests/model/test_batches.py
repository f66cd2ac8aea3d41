"""Which chunks are computed together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from model.batches import batches, padding_share


def test_batches_hold_nearly_one_length_longest_first():
    assert batches([5, 9, 1, 9, 5], 2) == [[1, 3], [0, 4], [2]]
    assert batches([], 2) == []


def test_a_batch_ends_where_padding_costs_more_than_another_batch():
    assert batches([9, 9, 8, 7, 2, 1], 6, batch_cost=5) == [[0, 1, 2, 3], [4, 5]]
    assert batches([9, 1, 9], 2, batch_cost=7) == [[0, 2], [1]]


def test_without_a_batch_s_cost_groups_are_few_and_of_the_least_padding():
    assert batches([9, 9, 9, 3, 3, 3], 4) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_partition_of_the_sorted_lengths_costs_less(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 9).tolist()

    def cost(groups):
        return sum(max(lengths[i] for i in group) * len(group) + 20 for group in groups)

    order = sorted(range(9), key=lambda i: -lengths[i])
    every = [
        [order[a:b] for a, b in zip((0, *cuts), (*cuts, 9), strict=True)]
        for count in range(9)
        for cuts in combinations(range(1, 9), count)
    ]
    found = batches(lengths, 4, batch_cost=20)
    assert sorted(i for group in found for i in group) == list(range(9))
    assert cost(found) == min(cost(groups) for groups in every if max(map(len, groups)) <= 4)


def test_padding_share_counts_what_is_computed_for_nothing():
    assert padding_share([2, 4, 4], [[0, 1], [2]]) == pytest.approx(2 / 12)
    assert padding_share([4, 4], [[0, 1]]) == 0
    assert padding_share([], []) == 0
