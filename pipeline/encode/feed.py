"""A queue of units on Ray, between the driver and the one task that hands them to Ray Data.

The task may die and begin anew: Ray then asks it for every block from the first on, and passes over those it has had.
So units are numbered and kept until they are done, and what is done is given back as a row that nobody reads.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.encode.ledger import CALL_RETRIES, end_actor
from pipeline.plan.units import Unit

AT_ONCE = 64  # units a question
PAUSE_SECONDS = 0.1  # between two questions, where there was nothing
NOBODY_READS = b""


class Units:
    """The queue. No Ray in it. Every method may come twice: a call whose answer was lost is sent again."""

    def __init__(self):
        self._waiting: dict[int, bytes] = {}
        self._given, self._closed = 0, False

    def give(self, first: int, units: list[bytes]) -> None:
        """Units at the places from `first` on."""
        self._waiting.update((place, unit) for place, unit in enumerate(units, first) if place >= self._given)
        self._given = max(self._given, first + len(units))

    def forget(self, places: list[int]) -> None:
        """These are done."""
        for place in places:
            self._waiting.pop(place, None)

    def close(self) -> None:
        self._closed = True

    def take(self, first: int) -> list[bytes] | None:
        """At most AT_ONCE units from a place on; none where none has come yet, None where none will come."""
        if first >= self._given and self._closed:
            return None
        return [self._waiting.get(place, NOBODY_READS) for place in range(first, min(self._given, first + AT_ONCE))]


UnitsActor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=CALL_RETRIES)(Units)


class RemoteFeed:
    """The driver's end, and the task's. Put on the driver's node: on any other, that node's death would end the job."""

    def __init__(self):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = UnitsActor.options(scheduling_strategy=here).remote()
        self._given = 0

    def give(self, units: list[Unit]) -> None:
        ray.get(self._actor.give.remote(self._given, [pickle.dumps(unit) for unit in units]))
        self._given += len(units)

    def forget(self, places: list[int]) -> None:
        self._actor.forget.remote(places)

    def close(self) -> None:
        ray.get(self._actor.close.remote())

    def end(self) -> None:
        """Nobody will ask again. Ray Data keeps handles on what a job was given: left alone, the actor lives as long
        as the driver's Ray does."""
        end_actor(self._actor)

    def __iter__(self) -> Iterator[bytes]:
        """Each unit, pickled, as it comes; waits for more until the feed is closed."""
        place = 0
        while (units := ray.get(self._actor.take.remote(place))) is not None:
            yield from units
            place += len(units)
            if not units:
                time.sleep(PAUSE_SECONDS)
