"""When a fault strikes, as seen from outside: what the bank's folder and the record of work say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.job import Job, wait_until
from benchmarks.chaos.machines import Machines

TAIL = 0.85  # of all chunks committed: the job's last seconds


@dataclass(frozen=True, slots=True)
class Committed:
    """What one entry of the log brought, and when."""

    files: set[str]
    units: set[str]
    chunks: int
    time: float


class Seen:
    """What can be seen of a job without asking it."""

    def __init__(self, job: Job, machines: Machines, work: Path, chunks: int):
        self.job, self.machines, self.work, self.chunks = job, machines, work, chunks

    def commits(self) -> list[Committed]:
        """Each log entry, the one that made the bank first."""
        found = []
        for path in sorted(self.job.bank.glob("_delta_log/*.json")):
            actions = [json.loads(line) for line in path.read_text().splitlines()]
            brought = next((a["commitInfo"].get("nextmem") for a in actions if "commitInfo" in a), None)
            brought = json.loads(brought) if isinstance(brought, str) else brought or {}
            found.append(
                Committed(
                    files={action["add"]["path"] for action in actions if "add" in action},
                    units={a["txn"]["appId"].removeprefix("unit/") for a in actions if "txn" in a},
                    chunks=brought.get("chunks", 0),
                    time=path.stat().st_mtime,
                )
            )
        return found

    def committed(self) -> int:
        return sum(commit.chunks for commit in self.commits())

    def version(self) -> int:
        return len(self.commits())

    def uncommitted(self) -> set[str]:
        """Data files that are whole and that no commit names yet."""
        written = {str(p.relative_to(self.job.bank)) for p in self.job.bank.rglob("part-*.parquet")}
        return written - {path for commit in self.commits() for path in commit.files}

    def attempts(self) -> list[dict]:
        """The record of work: one dict a call of an encoder, with `ended` where it was not cut short."""
        lines = [json.loads(line) for line in self.work.read_text().splitlines()] if self.work.exists() else []
        calls: dict[tuple, dict] = {}
        for line in lines:
            calls.setdefault((line["pid"], line["began"]), {}).update(line)
        return list(calls.values())

    def under_way(self) -> int:
        return sum("ended" not in attempt for attempt in self.attempts())


def wait_for(phase: str, seen: Seen, process) -> None:
    """Until the job is in that phase, counted from now."""
    wait_until(_condition(phase, seen), process, what=f"phase {phase!r}")


def _condition(phase: str, seen: Seen) -> Callable[[], bool]:
    started, version = len(seen.attempts()), seen.version()
    return {
        "start": lambda: bool(seen.machines.encoders()) and len(seen.attempts()) == started,
        "in a unit": lambda: len(seen.attempts()) >= started + 3 and seen.under_way() > 0,
        "written": lambda: len(seen.attempts()) > started and bool(seen.uncommitted()),
        "committed": lambda: seen.version() > max(version, 1),
        "tail": lambda: seen.committed() >= TAIL * seen.chunks,
    }[phase]


PHASES = ("start", "in a unit", "written", "committed", "tail")
