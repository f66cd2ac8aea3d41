"""Commands that change a bank, each killed at each moment of its commit: is it all or nothing, and does it go on?

A command runs in a process of its own that kills itself (inject/sitecustomize.py): once its first file is in the bank,
when it is about to commit, when it has committed. What the bank then holds is compared with what it held before and
with what an unbroken run made. Then the same command runs again, and must end with what the unbroken run made.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.job import PATIENCE, ROOT
from pipeline import schema
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import COLUMNS, recall
from pipeline.bank.transaction_log import LOG

INJECT = Path(__file__).parent / "inject"
MOMENTS = ("file", "commit", "committed")
ROW = [schema.DOC_ID, schema.CHUNK_ID, schema.TEXT_HASH, schema.CODES]


@dataclass(frozen=True, slots=True)
class Place:
    """Where verbs are tried: banks of one codec, and a folder for what is made."""

    folder: Path
    codec: Path  # another one than the banks'

    @property
    def bank(self) -> Path:
        return self.folder / "bank"

    @property
    def other(self) -> Path:
        return self.folder / "other"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def copied(self, folder: Path) -> Place:
        return Place(Path(shutil.copytree(self.folder, folder)), self.codec)


@dataclass(frozen=True, slots=True)
class Verb:
    """A command, and the bank that it changes."""

    name: str
    arguments: Callable[[Place], list[object]]
    changed: Callable[[Place], Path] = lambda place: place.bank
    moments: tuple[str, ...] = MOMENTS
    latents: bool = True  # whether two runs of it make the same latents
    whole: bool = True  # whether it is one commit; else each of its commits may be all that was made


@dataclass(frozen=True, slots=True)
class Broken:
    """How one verb fared that was killed at one moment."""

    verb: str
    moment: str
    between: str  # what the bank held after the kill: before, after, part, or WRONG
    whole: bool  # it was right then, and what the unbroken run made once the command had run again
    code: int  # of the command that ran again
    seconds: float
    note: str = ""


VERBS = (
    Verb("remember", lambda place: ["remember", place.bank, "The ferry leaves at 5:40.", "--id", "ferry"]),
    Verb("edit", lambda place: ["edit", place.bank, "--all", "--replace", "the", "THE"]),
    Verb("merge", lambda place: ["merge", place.bank, place.other]),
    Verb("forget", lambda place: ["forget", place.bank, "--where", "position = 1"]),
    Verb("restore", lambda place: ["restore", place.bank, "--version", 0], moments=("commit", "committed")),
    Verb(
        "migrate",
        lambda place: ["migrate", place.bank, place.out, "--codec", place.codec, "--set", "unit_chunks=8", "--json"],
        changed=lambda place: place.out,
        whole=False,
    ),
)


def run_verb(verb: Verb, base: Place, moment: str) -> Broken:
    """Break it in a copy of `base`, beside one that is not broken."""
    name = f"{verb.name}-{moment}"
    quiet, broken = (base.copied(base.folder.parent / f"{name}-{kind}") for kind in ("unbroken", "broken"))
    before = _contents(verb, broken)
    ended = _run(verb, quiet)
    if ended.returncode:
        return Broken(verb.name, moment, "-", False, ended.returncode, 0.0, f"unbroken: {ended.stderr[-300:]}")
    after, start = _contents(verb, quiet), time.monotonic()
    killed = _run(verb, broken, moment)
    between = _contents(verb, broken)
    again = _run(verb, broken)
    seconds = time.monotonic() - start
    said = _said(between, before, after, verb)
    problems = _problems(verb, broken)
    right = killed.returncode == -signal.SIGKILL and said != "WRONG" and _contents(verb, broken) == after
    note = (
        "" if right and not problems else f"{killed.returncode} {killed.stderr[-200:]} {again.stderr[-200:]} {problems}"
    )
    return Broken(verb.name, moment, said, right and not problems, again.returncode, seconds, note)


def _said(between: Counter, before: Counter, after: Counter, verb: Verb) -> str:
    for name, held in (("before", before), ("after", after)):
        if between == held:
            return name
    return "part" if not verb.whole and before <= between <= after else "WRONG"


def _run(verb: Verb, place: Place, moment: str | None = None) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "nextmem.cli", *map(str, verb.arguments(place))]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(INJECT), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    environment |= {"NEXTMEM_CHAOS_KILL": moment} if moment else {}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def _contents(verb: Verb, place: Place) -> Counter:
    """Every row of the bank that the verb changes, counted; none where there is no bank."""
    path = verb.changed(place)
    if not list(path.glob(f"{LOG}/*.json")):
        return Counter()
    columns = ROW if verb.latents else ROW[:-1]
    rows = (row for batch in open_bank(str(path)).rows(columns) for row in batch.to_pylist())
    return Counter(tuple(row[name] for name in columns) for row in rows)


def _problems(verb: Verb, place: Place) -> list[str]:
    bank = open_bank(str(verb.changed(place)))
    wrong = [row.chunk_id for row in recall(bank.rows(COLUMNS), load_bank_codec(bank)) if not row.exact]
    return [*map(str, first_problems(bank)), *wrong]
