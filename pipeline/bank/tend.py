"""Tend a bank, by the verbs of pipeline/bank/upkeep.py. Never beside a writer."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.presence import ENDED, JobRecord, Presence, forget, job_records, refuse_beside
from pipeline.bank.unit_file import MAX_FILE_BYTES
from pipeline.bank.upkeep import Unneeded, checkpoint, compact, joinable, remove, unneeded

REMEMBERED = 20  # jobs that have ended, for `nextmem status` and for the rate of a dry run
BESIDE = ("encode", "tend", "refine")  # none of which may run meanwhile


@dataclass(frozen=True, slots=True)
class Tended:
    """What was done, or in a dry run what would be."""

    bank: str
    joined: int  # small files
    into: int
    orphans: tuple[str, ...]
    orphan_bytes: int
    superseded: tuple[str, ...]
    superseded_bytes: int
    plans: tuple[str, ...]
    log_files: int  # removed, after a checkpoint
    forgotten: int  # records of jobs that ended long ago
    dry_run: bool


def tend(bank: Bank, *, orphan_hours: int, version_hours: int, dry_run: bool = False) -> Tended:
    """Tend the newest version of the bank: `unneeded` says what the hours mean. The rows stay as they are.

    Raises BusyError while another job is at work on the bank.
    """
    bank.reload()  # to an older version, what newer ones hold is unneeded
    if dry_run:
        refuse_beside(bank.folder, *BESIDE)
        return _tended(bank, orphan_hours, version_hours, dry_run=True)
    with Presence(bank.folder, "tend") as presence:
        presence.begin(state="tending")  # before looking: of a tend and an encode, at least one sees the other
        refuse_beside(bank.folder, *BESIDE, but=presence.record.job)
        return _tended(bank, orphan_hours, version_hours, dry_run=False)


def _tended(bank: Bank, orphan_hours: int, version_hours: int, *, dry_run: bool) -> Tended:
    small = joinable(bank)
    live = len(bank.files())
    joined = (len(small) if len(small) > 1 else 0) if dry_run else compact(bank)
    into = _joined_files(small) if dry_run else len(bank.files()) - live + joined
    gone = unneeded(bank, orphan_hours=orphan_hours, version_hours=version_hours)
    forgotten = _forgettable(bank)
    return Tended(
        bank=bank.folder.uri,
        joined=joined,
        into=into,
        orphans=gone.orphans,
        orphan_bytes=_bytes(bank, gone.orphans),
        superseded=gone.superseded,
        superseded_bytes=_bytes(bank, gone.superseded),
        plans=gone.plans,
        log_files=0 if dry_run else _remove(bank, gone, forgotten),
        forgotten=len(forgotten),
        dry_run=dry_run,
    )


def _joined_files(small: list[int]) -> int:
    """About how many files the small ones make."""
    return -(-sum(small) // MAX_FILE_BYTES) if len(small) > 1 else 0


def _forgettable(bank: Bank) -> list[JobRecord]:
    return [job for job in job_records(bank.folder) if job.state in ENDED or not job.is_alive()][REMEMBERED:]


def _bytes(bank: Bank, names: tuple[str, ...]) -> int:
    return sum(bank.folder.size(name) or 0 for name in names)


def _remove(bank: Bank, gone: Unneeded, forgotten: list[JobRecord]) -> int:
    """Everything that goes; how many files of the log among it."""
    remove(bank, gone)
    for job in forgotten:
        forget(bank.folder, job)
    return checkpoint(bank)
