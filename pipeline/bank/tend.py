"""Tend a bank, by the verbs of pipeline/bank/upkeep.py and erase.py. Never beside a writer."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.erase import Rewritten, drop_older_versions, older_entries, rewrite_lists
from pipeline.bank.presence import ENDED, JobRecord, Presence, forget, job_records, refuse_beside
from pipeline.bank.unit_file import MAX_FILE_BYTES
from pipeline.bank.upkeep import (
    Unneeded,
    checkpoint,
    compact,
    everything_unneeded,
    joinable,
    remove,
    unneeded,
)

REMEMBERED = 20  # jobs that have ended, for `nextmem status` and for the rate of a dry run


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
    forgotten: int  # records of jobs that ended long ago; with `now` of all that ended with an error
    rejected: int  # forgotten documents that left the lists of rejected ones
    now: bool
    dry_run: bool
    encoded: int = 0  # chunks whose latents were still those of the text before an edit


def tend(bank: Bank, *, orphan_hours: int, version_hours: int, now: bool = False, dry_run: bool = False) -> Tended:
    """Tend the newest version of the bank: `unneeded` says what the hours mean. The rows stay as they are.

    `now`: what was forgotten leaves every file. Whatever the hours are, all goes that the newest version does without,
    and older versions with it (pipeline/bank/erase.py). Raises BusyError while another job is at work on the bank.
    """
    hours = {"orphan_hours": orphan_hours, "version_hours": version_hours}
    bank.reload()  # to an older version, what newer ones hold is unneeded
    if dry_run:
        refuse_beside(bank.folder)
        return _tended(bank, **hours, now=now, dry_run=True)
    with Presence(bank.folder, "tend") as presence:
        presence.begin(state="tending")  # before looking: of a tend and an encode, at least one sees the other
        refuse_beside(bank.folder, but=presence.record.job)
        bank.reload()  # whoever was at work until now may have committed
        return _tended(bank, **hours, now=now, dry_run=False)


def _tended(bank: Bank, *, orphan_hours: int, version_hours: int, now: bool, dry_run: bool) -> Tended:
    small = joinable(bank)
    live = len(bank.files())
    joined = (len(small) if len(small) > 1 else 0) if dry_run else compact(bank)
    into = _joined_files(small) if dry_run else len(bank.files()) - live + joined
    lists = rewrite_lists(bank, dry_run=dry_run) if now else Rewritten()
    hours = {"orphan_hours": orphan_hours, "version_hours": version_hours}
    gone = everything_unneeded(bank) if now else unneeded(bank, **hours)
    forgotten = _forgettable(bank, failed=now)
    return Tended(
        bank=bank.folder.uri,
        joined=joined,
        into=into,
        orphans=gone.orphans,
        orphan_bytes=_bytes(bank, gone.orphans),
        superseded=gone.superseded,
        superseded_bytes=_bytes(bank, gone.superseded),
        plans=gone.plans,
        log_files=_older(bank, now=now) if dry_run else _remove(bank, gone, lists, forgotten, now=now),
        forgotten=len(forgotten),
        rejected=lists.documents,
        now=now,
        dry_run=dry_run,
    )


def _joined_files(small: list[int]) -> int:
    """About how many files the small ones make."""
    return -(-sum(small) // MAX_FILE_BYTES) if len(small) > 1 else 0


def _forgettable(bank: Bank, *, failed: bool) -> list[JobRecord]:
    """Ended jobs that nobody asks for any more; `failed`: and those whose error may name a document."""
    ended = [job for job in job_records(bank.folder) if job.state in ENDED or not job.is_alive()]
    return [job for place, job in enumerate(ended) if place >= REMEMBERED or (failed and job.error)]


def _bytes(bank: Bank, names: tuple[str, ...]) -> int:
    return sum(bank.folder.size(name) or 0 for name in names)


def _older(bank: Bank, *, now: bool) -> int:
    return len(older_entries(bank)) if now else 0


def _remove(bank: Bank, gone: Unneeded, lists: Rewritten, forgotten: list[JobRecord], *, now: bool) -> int:
    """Everything that goes; how many files of the log among it."""
    remove(bank, gone)
    for name in lists.needless:
        bank.folder.remove(name)
    for job in forgotten:
        forget(bank.folder, job)
    return checkpoint(bank) + (drop_older_versions(bank) if now else 0)
