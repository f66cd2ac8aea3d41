"""The ledger: how often a unit has been tried, kept outside the encoders that may die of it.

Ray restarts a dead actor and hands it the same unit again, for ever. The ledger makes that finite: a range of documents
that killed its encoder twice is halved, and a single document that did is left out. One crash alone is forgiven: a node
may be lost under a unit that is not to blame. Ranges under suspicion come last, so that what crashes the second
time does so in a process that has just encoded the others.

It also knows which process failed at which unit, and which documents failed alone in it (blame.py): the next
attempt is another process's, and what fails there again is proven.

Ray also hands out a unit again whose node died after its outcome had left and before Ray had noted its end. The ledger
keeps the latest outcomes, so that such a unit is answered and not encoded again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.encode.outcome import Outcome

CRASHES_FORGIVEN = 1
ANSWER_SECONDS = 5.0
CALL_RETRIES = 20
REMEMBERED = 20_000  # outcomes of a few hundred bytes: more than Ray has under way at once (WINDOW)


@dataclass(slots=True)
class _Unit:
    ranges: list[tuple[int, int]]  # documents [from, to) still to be encoded together, in order
    poison: list[int] = field(default_factory=list)
    trying: tuple[int, int] | None = None
    crashes: dict[tuple[int, int], int] = field(default_factory=dict)

    def suspects_last(self) -> list[tuple[int, int]]:
        return sorted(self.ranges, key=lambda each: self.crashes.get(each, 0))


@dataclass(slots=True)
class _Faults:
    """Of one unit, by the process in which they happened."""

    kinds: dict[str, dict[int, str]] = field(default_factory=dict)  # {process: {document: Fault.kind}}

    def proven(self, document: int) -> bool:
        """It failed in two processes, with like errors."""
        found = [kinds[document] for kinds in self.kinds.values() if document in kinds]
        return len(found) > len(set(found))


class Ledger:
    """Ranges of a unit's documents, narrowed by crashes. No Ray in it: tests use it as it is."""

    def __init__(self):
        self._units: dict[str, _Unit] = {}
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._faults: OrderedDict[str, _Faults] = OrderedDict()
        self._encoded = 0

    def outcome(self, unit_id: str) -> Outcome | None:
        """What an encoder that is perhaps dead made of the unit; None where none has finished it lately."""
        return self._outcomes.get(unit_id)

    def begin(self, unit_id: str, documents: int) -> tuple[list[tuple[int, int]], list[int]]:
        """(ranges to encode, documents to leave out). A range under way when the last attempt ended has crashed."""
        unit = self._units.setdefault(unit_id, _Unit([(0, documents)]))
        if unit.trying is not None:
            self._crashed(unit, unit.trying)
            unit.trying = None
        return unit.suspects_last(), list(unit.poison)

    def trying(self, unit_id: str, first: int, last: int) -> None:
        self._units[unit_id].trying = (first, last)

    def finished(self, unit_id: str, outcome: Outcome) -> None:
        """The unit is done: its crashes are forgotten, and a failure is too, for a next attempt may do better."""
        self._units.pop(unit_id, None)
        if outcome.receipt is not None:
            self._faults.pop(unit_id, None)
            _keep(self._outcomes, unit_id, outcome)

    def failed(self, unit_id: str, process: str, kinds: Mapping[int, str] = MappingProxyType({})) -> set[int]:
        """A process fails at the unit. `kinds`: of the faults of documents that failed alone, others having passed.

        Returns those of them that are proven to be at fault.
        """
        faults = self._faults.get(unit_id, _Faults())
        faults.kinds.setdefault(process, {}).update(kinds)
        _keep(self._faults, unit_id, faults)
        return {document for document in kinds if faults.proven(document)}

    def has_failed(self, unit_id: str, process: str) -> bool:
        """Whether this process could not do the unit: another one is to try it."""
        return unit_id in self._faults and process in self._faults[unit_id].kinds

    def encoded(self, chunks: int) -> None:
        """So many chunks more: what a progress bar shows between one finished unit and the next."""
        self._encoded += chunks

    def total(self) -> int:
        """Chunks encoded so far, those of a unit that was tried twice counted twice."""
        return self._encoded

    def under_way(self) -> list[str]:
        """Units that an encoder has begun and not finished."""
        return [unit_id for unit_id, unit in self._units.items() if unit.trying is not None]

    def _crashed(self, unit: _Unit, crashed: tuple[int, int]) -> None:
        unit.crashes[crashed] = unit.crashes.get(crashed, 0) + 1
        if unit.crashes[crashed] <= CRASHES_FORGIVEN:
            return
        at, (first, last) = unit.ranges.index(crashed), crashed
        if last - first == 1:
            unit.poison.append(first)
            unit.ranges[at : at + 1] = []
        else:
            middle = (first + last) // 2
            unit.ranges[at : at + 1] = [(first, middle), (middle, last)]


def _keep(latest: OrderedDict, unit_id: str, what: object) -> None:
    latest[unit_id] = what
    while len(latest) > REMEMBERED:
        latest.popitem(last=False)


def end_actor(actor: ray.actor.ActorHandle) -> None:
    """Also where the job ends because Ray has gone, or is going."""
    if ray.is_initialized():
        with suppress(RayError):
            ray.kill(actor)


# Every method may come twice: a call whose answer was lost on the way is sent again.
LedgerActor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=CALL_RETRIES)(Ledger)


class RemoteLedger:
    """A ledger that lives in an actor of its own, called as if it were here.

    The actor is put on the driver's node: on any other, that node's death would end the job.
    """

    def __init__(self):
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = LedgerActor.options(scheduling_strategy=here).remote()
        self._asked: ray.ObjectRef | None = None
        self._total = 0

    def end(self) -> None:
        """Nobody will ask again (see RemoteFeed.end)."""
        end_actor(self._actor)

    def outcome(self, unit_id: str) -> Outcome | None:
        return ray.get(self._actor.outcome.remote(unit_id))

    def begin(self, unit_id: str, documents: int) -> tuple[list[tuple[int, int]], list[int]]:
        return ray.get(self._actor.begin.remote(unit_id, documents))

    def trying(self, unit_id: str, first: int, last: int) -> None:
        ray.get(self._actor.trying.remote(unit_id, first, last))

    def finished(self, unit_id: str, outcome: Outcome) -> None:
        """Waits for the answer: this worker may die the moment its outcome has left."""
        ray.get(self._actor.finished.remote(unit_id, outcome))

    def failed(self, unit_id: str, process: str, kinds: Mapping[int, str] = MappingProxyType({})) -> set[int]:
        return ray.get(self._actor.failed.remote(unit_id, process, dict(kinds)))

    def has_failed(self, unit_id: str, process: str) -> bool:
        return ray.get(self._actor.has_failed.remote(unit_id, process))

    def under_way(self) -> list[str]:
        """An empty list also where the ledger does not answer in time."""
        with suppress(RayActorError, GetTimeoutError):
            return ray.get(self._actor.under_way.remote(), timeout=ANSWER_SECONDS)
        return []

    def encoded(self, chunks: int) -> None:
        self._actor.encoded.remote(chunks)

    def total(self) -> int:
        """The newest total there is, without waiting for a newer one, and without ending a job over it."""
        self._asked = self._asked or self._actor.total.remote()
        if ray.wait([self._asked], timeout=0)[0]:
            with suppress(RayActorError):
                self._total = ray.get(self._asked)
            self._asked = None
        return self._total
