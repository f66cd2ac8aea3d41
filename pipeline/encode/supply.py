"""Units on their way to the workers: how many at once, and which are handed out again.

A job is one execution of Ray Data from its first unit to its last, so that encoders load once. What is under way at any
time is bounded here, and with it the memory of the driver. Knows no Ray.

The feed is closed as soon as the last unit is handed out, not once the last is done. Ray Data lets an idle encoder go
only when it knows that nothing more will come. Where a GPU's node died, the unit that it held waits for that very
encoder to start again, and where nothing takes the node's place, it can start only on a GPU that another lets go.
So units that failed come again through a feed of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Protocol

from pipeline.encode.outcome import Failure, Outcome
from pipeline.plan.units import Unit

TRIES = 3  # of a unit in one job, each in another process
HOPELESS = 16  # failures in a row, and one more an encoder, after which no unit is expected to succeed


class Feed(Protocol):
    """Where units are taken from (pipeline/encode/feed.py). Places count from 0, and never again from there."""

    def give(self, units: list[Unit]) -> None: ...

    def forget(self, places: list[int]) -> None: ...

    def close(self) -> None: ...


class Supply:
    """Hands units to a feed. `settle` takes what became of each; failed ones are kept for the next feed."""

    def __init__(self, units: Iterable[Unit], *, window: int, encoders: int = 1):
        """`window`: units under way at once."""
        self._units, self._window = iter(units), window
        self._under_way: dict[str, tuple[int, Unit]] = {}  # by commit id: place, unit
        self._again: list[Unit] = []
        self._tries: Counter[str] = Counter()
        self._given = self._failures = 0
        self._hopeless = HOPELESS + encoders

    def hand_to(self, feed: Feed) -> None:
        """Begin a feed: the first with the units, each after it with those that failed. A window goes out at once."""
        self._feed, self._given = feed, 0
        if self._again:
            self._units, self._again = iter(self._again), []
        self._fill()

    @property
    def wants_another_feed(self) -> bool:
        """Whether units that failed are to be tried again, once all that was handed out is settled."""
        return bool(self._again)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def settle(self, outcome: Outcome) -> Outcome | None:
        """The outcome, if it is the unit's last. A failure after too many others in a row is made fatal."""
        place, unit = self._under_way.pop((outcome.receipt or outcome.failure).unit_id)
        outcome = self._judged(outcome)
        again = outcome.failure is not None and self._may_come_again(outcome.failure)
        if again:
            self._again.append(unit)
        else:
            self._tries.pop(unit.commit_id, None)
        self._feed.forget([place])
        self._fill()
        return None if again else outcome

    def _may_come_again(self, failure: Failure) -> bool:
        self._tries[failure.unit_id] += 1
        tries = self._tries[failure.unit_id]
        return not (failure.fatal or failure.lasting) and tries < TRIES and len(self._again) < self._window

    def _judged(self, outcome: Outcome) -> Outcome:
        if outcome.failure is None or outcome.failure.lasting:
            self._failures = 0 if outcome.failure is None else self._failures
            return outcome
        self._failures += 1
        if outcome.failure.fatal or self._failures < self._hopeless:
            return outcome
        reason = f"{self._failures} tries in a row failed, the last because {outcome.failure.reason}"
        return replace(outcome, failure=replace(outcome.failure, reason=reason, fatal=True))

    def _fill(self) -> None:
        room = self._window - len(self._under_way)
        fresh = list(islice(self._units, room))
        for unit in fresh:
            self._under_way[unit.commit_id] = (self._given, unit)
            self._given += 1
        if fresh:
            self._feed.give(fresh)
        if len(fresh) < room:
            self._feed.close()
