from __future__ import annotations

import pytest

from pipeline.encode.stalled import Patience, StalledError


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_job_that_moves_is_left_alone(clock):
    patience = Patience(30, lambda: [], clock=clock)
    for chunks in range(10):
        clock.now += 29 * 60
        patience.look(chunks, 0)


def test_a_job_that_stands_still_ends_and_names_the_units_it_waits_for(clock):
    patience = Patience(30, lambda: ["a1", "b2", "c3", "d4"], clock=clock)
    patience.look(5, 0)
    clock.now += 30 * 60
    patience.look(5, 0)
    clock.now += 1
    with pytest.raises(
        StalledError, match=r"for 30 minutes; it waits for unit a1, b2, c3 and 1 more, which an encoder"
    ):
        patience.look(5, 0)


def test_a_job_that_never_began_says_so(clock):
    patience = Patience(1, lambda: [], clock=clock)
    patience.look(0, 0)
    clock.now = 61
    with pytest.raises(StalledError, match="no encoder has begun a unit"):
        patience.look(0, 0)
