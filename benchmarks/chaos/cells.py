"""The matrix: every fault in each of its phases, run and judged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.chaos.disk import NoSmallDiskError
from benchmarks.chaos.faults import FAULTS, Fault
from benchmarks.chaos.job import HungError
from benchmarks.chaos.judge import Judged, judge
from benchmarks.chaos.phases import Seen
from benchmarks.chaos.scene import Stage, scene

WHOLE, BROKEN, HUNG, SKIPPED = "whole", "BROKEN", "HUNG", "not run"


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault in one phase."""

    fault: str
    phase: str
    result: str
    times: int = 0  # it struck
    seconds: float = 0.0  # from the first start of the command to its last end, the cluster's own start left out
    recovery: float | None = None  # seconds from a strike to the next commit, the longest
    judged: Judged | None = None
    note: str = ""

    @property
    def fine(self) -> bool:
        return self.result in (WHOLE, SKIPPED)


def cells() -> Iterator[tuple[Fault, str]]:
    for fault in FAULTS:
        for phase in fault.phases:
            yield fault, phase


def run_cell(base: Stage, fault: Fault, phase: str) -> Cell:
    """Break a fresh job and judge what is left of it."""
    try:
        return _run(base, fault, phase)
    except NoSmallDiskError as error:
        return Cell(fault.name, phase, SKIPPED, note=str(error))


def _run(base: Stage, fault: Fault, phase: str) -> Cell:
    folder = base.folder / re.sub(r"\W+", "-", f"{fault.name} {phase}".strip())
    needs = {"environment": fault.environment, "machines": fault.machines, "disk": fault.disk}
    with scene(folder, base.codec, base.whole.total(), **needs) as broken:
        start = time.monotonic()
        try:
            told = fault.strike(broken, phase)
        except HungError as error:
            return Cell(fault.name, phase, HUNG, seconds=time.monotonic() - start, note=str(error))
        seconds = time.monotonic() - start
        judged = judge(broken.seen, base.whole, without=told.without)
        good = judged.whole and told.ended.code == 0
        note = told.note if good else f"{told.note} {told.ended.last_words} {judged.problems}".strip()
        recovery = _recovery(broken.seen, told.struck)
        result = WHOLE if good else BROKEN
        return Cell(fault.name, phase, result, len(told.struck), seconds, recovery, judged, note)


def _recovery(seen: Seen, struck: list[float]) -> float | None:
    times = [commit.time for commit in seen.commits()]
    waits = [min((at - strike for at in times if at > strike), default=None) for strike in struck]
    return max((wait for wait in waits if wait is not None), default=None)
