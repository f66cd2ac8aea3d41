"""Noise on what the decoder reads: how much, of what, the same for whoever asks."""

from __future__ import annotations

import numpy as np

from model.training.noise import noisy

CHUNKS = [np.random.default_rng(i).integers(3, 50_000, size=n) for i, n in enumerate((128, 7, 1, 90) * 100)]


def test_about_the_share_is_replaced_by_tokens_of_the_steps_own_text():
    before = [chunk.copy() for chunk in CHUNKS]
    read = noisy(CHUNKS, 0.15, seed=0, step=3)
    assert [len(each) for each in read] == [len(each) for each in CHUNKS]
    assert all(np.array_equal(*pair) for pair in zip(CHUNKS, before, strict=True))  # the labels
    changed = np.concatenate(read) != np.concatenate(CHUNKS)
    assert abs(changed.mean() - 0.15) < 0.01
    assert set(np.concatenate(read)) <= set(np.concatenate(CHUNKS))


def test_it_is_a_function_of_seed_and_step():
    first = np.concatenate(noisy(CHUNKS, 0.15, seed=0, step=3))
    assert np.array_equal(first, np.concatenate(noisy(CHUNKS, 0.15, seed=0, step=3)))
    for other in ({"seed": 1, "step": 3}, {"seed": 0, "step": 4}):
        assert not np.array_equal(first, np.concatenate(noisy(CHUNKS, 0.15, **other)))
