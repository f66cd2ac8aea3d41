"""Who does a system's work: this process, or several Ray actors that each hold the systems.

The arithmetic is the systems' own either way, batch by batch, and what comes back is kept by the process that asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs.cluster.session import Cluster
from jobs.evaluate.opened import open_systems
from jobs.evaluate.reader import Reader, open_reader
from jobs.evaluate.system import Opening, System
from model.refusal import Unavailable

AHEAD = 2  # calls that an actor has at hand
RETRIES = 2  # of an actor that died, and of the call that it had


@dataclass(frozen=True, slots=True)
class Call:
    """One batch: a method of a system, or of the reader where `system` is None."""

    system: str | None
    method: str
    arguments: tuple
    keywords: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """What the call at `place` gave, and how long it took where it was made."""

    place: int
    found: list
    seconds: float


class Maker:
    """Opens a system when its first call comes. `places`: names as they were asked for, and where they lie here."""

    def __init__(self, places: dict[str, str], opening: Opening, backbone: str, threads: int):
        self._places, self._opening, self._backbone, self._threads = places, opening, backbone, threads
        self._systems: dict[str, System] = {}
        self._reader: Reader | None = None

    def make(self, place: int, call: Call) -> Made:
        import torch

        torch.set_num_threads(self._threads)  # Ray sets it to the actor's CPUs, which may be another number
        system = None if call.system is None else self._system(call.system)
        return made(place, call, system, self._its_reader)

    def _system(self, name: str) -> System:
        for asked, place in self._places.items():
            if name in self._systems:
                break
            if name == asked or name.startswith(f"{asked} "):
                for system in open_systems([place], self._opening)[0]:
                    self._systems[asked + system.name.removeprefix(place)] = system
        return self._systems[name]

    def _its_reader(self) -> Reader:
        self._reader = self._reader or open_reader(self._backbone, self._opening.precision)
        return self._reader


def made(place: int, call: Call, system: System | None, reader: Callable[[], Reader]) -> Made:
    """The call, done here. Answering needs the reader beside the system."""
    with_reader = (reader(),) if call.method == "answer" else ()
    target = reader() if system is None else system
    start = time.perf_counter()
    found = getattr(target, call.method)(*call.arguments, *with_reader, **call.keywords)
    return Made(place, list(found), time.perf_counter() - start)


class Actors:
    """Ray actors, one a GPU or so many as there are. They end with the session."""

    def __init__(self, count: int, cluster: Cluster, names: Sequence[str], opening: Opening, backbone: str):
        import ray

        self.count = count
        threads = max(1, cluster.cores // count)
        here = {"num_cpus": 0 if cluster.is_local else threads, "num_gpus": 1 if cluster.gpus else 0}
        kind = ray.remote(max_restarts=RETRIES, max_task_retries=RETRIES)(Maker).options(**here)
        opening = replace(opening, models={name: whole(path) for name, path in opening.models.items()})
        places = {name: whole(name) for name in names}
        self._actors = [kind.remote(places, opening, whole(backbone), threads) for _ in range(count)]

    def run(self, calls: Iterable[Call]) -> Iterator[Made]:
        """As they end. Raises what a call raised, and Unavailable where actors died again and again."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        waiting, at_work = enumerate(calls), {}
        free = [actor for _ in range(AHEAD) for actor in self._actors]
        while True:
            while free and (following := next(waiting, None)) is not None:
                actor = free.pop(0)
                at_work[actor.make.remote(*following)] = actor
            if not at_work:
                return
            [ended], _ = ray.wait(list(at_work), num_returns=1)
            free.append(at_work.pop(ended))
            try:
                yield ray.get(ended)
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                raise Unavailable(f"an actor died {RETRIES + 1} times: {type(error).__name__}; run it again") from None


def whole(path: str) -> str:
    """A folder's whole path: an actor works in another folder. A name that is no folder stays."""
    return os.fspath(Path(path).absolute()) if Path(path).exists() else path
