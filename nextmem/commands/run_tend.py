"""`nextmem tend`: join small files, remove what nobody needs, checkpoint the log. Never beside a writer."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.output import emit, size, table
from jobs.settings import TendSettings
from pipeline.bank.bank import Bank
from pipeline.bank.opened import open_bank
from pipeline.bank.presence import ENDED, JobRecord, Presence, forget, job_records, refuse_beside
from pipeline.bank.tend import Unneeded, checkpoint, compact, joinable, remove, unneeded
from pipeline.bank.unit_file import MAX_FILE_BYTES

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
    forgotten: int  # records of jobs that ended long ago
    dry_run: bool


def run_tend(uri: str, settings: TendSettings, *, dry_run: bool, as_json: bool) -> None:
    """Tend the bank and print what was done. Raises BusyError while another job is at work on it."""
    bank = open_bank(uri)
    if dry_run:
        refuse_beside(bank.folder, "encode", "tend", "refine")
        tended = _tend(bank, settings, dry_run=True)
    else:
        with Presence(bank.folder, "tend") as presence:
            presence.begin(state="tending")  # before looking: of a tend and an encode, at least one sees the other
            refuse_beside(bank.folder, "encode", "tend", "refine", but=presence.record.job)
            tended = _tend(bank, settings, dry_run=False)
    _print(tended, settings, as_json)


def _tend(bank: Bank, settings: TendSettings, *, dry_run: bool) -> Tended:
    small = joinable(bank)
    live = len(bank.files())
    joined = (len(small) if len(small) > 1 else 0) if dry_run else compact(bank)
    into = _joined_files(small) if dry_run else len(bank.files()) - live + joined
    gone = unneeded(bank, orphan_hours=settings.orphan_hours, version_hours=settings.version_hours)
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


def _print(tended: Tended, settings: TendSettings, as_json: bool) -> None:
    if as_json:
        emit({name: getattr(tended, name) for name in Tended.__dataclass_fields__})
        return
    table([("bank", tended.bank), *_rows(tended, settings)])


def _rows(t: Tended, settings: TendSettings) -> list[tuple[str, str]]:
    will = "would be " if t.dry_run else ""
    into = f"{'about ' if t.dry_run else ''}{t.into:,}"
    orphans = f"{len(t.orphans):,} files of {size(t.orphan_bytes)}"
    superseded = f"{len(t.superseded):,} files of {size(t.superseded_bytes)}"
    return [
        ("files", f"{t.joined:,} small files {will}joined into {into}" if t.joined else "nothing to join"),
        ("orphans", f"{orphans} {will}removed: never committed, {settings.orphan_hours} h old or more"),
        ("superseded", f"{superseded} {will}removed: out of the table for {settings.version_hours} h or more"),
        ("plans", f"{len(t.plans):,} of corpora as they were {will}removed: {settings.version_hours} h old or more"),
        ("log", "would be checkpointed" if t.dry_run else f"checkpointed, {t.log_files:,} expired files removed"),
        ("jobs", f"{t.forgotten:,} records of old jobs {will}forgotten"),
    ]
