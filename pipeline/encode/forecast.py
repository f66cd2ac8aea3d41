"""How many chunks a job will have made in the end: the plan guesses from bytes, finished units say what they held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.encode.outcome import Outcome
from pipeline.plan.units import Unit


class Forecast:
    """The plan's estimate, times what finished units held over what the plan had guessed for them."""

    def __init__(self, chunks: int, found_a_guess: float = 1.0):
        """`chunks`: of all units, as planned. `found_a_guess`: what a sample says of that, until a unit is done."""
        self._found_a_guess = found_a_guess
        self._planned, self._guessed, self._found = chunks, 0, 0
        self._under_way: dict[str, int] = {}

    def watching(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """The same units; what was guessed of each is remembered until it is done."""
        for unit in units:
            self._under_way[unit.commit_id] = unit.planned_chunks
            yield unit

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            done = outcome.receipt or outcome.failure
            guess = self._under_way.pop(done.unit_id, 0)
            if outcome.failure or outcome.elsewhere:
                self._planned -= guess  # nothing will come of it here
            else:
                self._guessed += guess
                self._found += outcome.receipt.chunks

    @property
    def chunks(self) -> int:
        """In all, finished ones among them."""
        left = max(0, self._planned - self._guessed)
        known = self._found and self._guessed
        return self._found + round(left * (self._found / self._guessed if known else self._found_a_guess))
