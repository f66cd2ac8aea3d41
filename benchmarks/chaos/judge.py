"""What the bank holds after a fault, against what an unbroken run made, and how much was done twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from benchmarks.chaos.job import Job
from benchmarks.chaos.phases import Seen
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.opened import load_bank_codec
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import COLUMNS, recall


@dataclass(frozen=True, slots=True)
class Judged:
    """Chunks, but for `wrong` (rows that do not recall to their hash) and `problems` (what `verify` found)."""

    lost: int
    doubled: int
    foreign: int  # in this bank and not in the unbroken one's
    again: int  # of units that were committed already when an encoder began them
    redone: float  # share of all chunks that were encoded more than once, or in vain
    wrong: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        return not (self.lost or self.doubled or self.foreign or self.again or self.wrong or self.problems)


def contents(job: Job) -> Counter:
    """(document id, chunk id, text hash) of every row, counted."""
    columns = [schema.DOC_ID, schema.CHUNK_ID, schema.TEXT_HASH]
    rows = [row for batch in Bank.open(str(job.bank)).rows(columns) for row in batch.to_pylist()]
    return Counter(tuple(row[name] for name in columns) for row in rows)


def judge(seen: Seen, whole: Counter, *, without: frozenset[str] = frozenset()) -> Judged:
    """Compare with the rows `whole` of an unbroken run. `without`: ids of documents that must be missing."""
    bank = Bank.open(str(seen.job.bank))
    held = contents(seen.job)
    codec = load_bank_codec(bank, backbone=None)
    wrong = sum(not row.exact for row in recall(bank.rows(COLUMNS), codec))
    expected = {row for row in whole if row[0] not in without}
    return Judged(
        lost=len(expected - set(held)),
        doubled=sum(count - 1 for count in held.values()),
        foreign=len(set(held) - expected),
        again=_again(seen),
        redone=_redone(seen, sum(held.values())),
        wrong=wrong,
        problems=tuple(str(problem) for problem in first_problems(bank)),
    )


def _again(seen: Seen) -> int:
    """Chunks of calls that began after their unit's commit."""
    at = {unit: commit.time for commit in seen.commits() for unit in commit.units}
    return sum(call["chunks"] for call in seen.attempts() if call["began"] > at.get(call["unit"], float("inf")))


def _redone(seen: Seen, chunks: int) -> float:
    """What was begun beyond once a chunk; a unit that was cut short counts whole."""
    return sum(call["chunks"] for call in seen.attempts()) / max(chunks, 1) - 1
