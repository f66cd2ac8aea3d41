"""`nextmem status`: what the jobs on a bank say of themselves, and the transaction log of the bank."""

from __future__ import annotations

import time
from dataclasses import asdict

from jobs.output import duration, emit, share, table
from pipeline.bank.bank import Bank
from pipeline.bank.opened import open_bank
from pipeline.bank.presence import JobRecord, job_records
from pipeline.bank.transaction_log import committed_at


def run_status(uri: str, *, as_json: bool) -> None:
    """Print every active job, or else how the last encode ended, and how old the last commit is. Only reads."""
    bank, now = open_bank(uri), time.time()
    shown = _shown(job_records(bank.folder))
    changed = committed_at(bank.folder, bank.version) / 1000
    if as_json:
        emit(_record(bank, shown, now, changed))
        return
    table(
        [
            ("bank", f"{bank.folder.uri}, version {bank.version}, {bank.count():,} chunks"),
            ("writer", "; ".join(_presence(job, now) for job in shown) or "none, and none is remembered"),
            ("commit", f"the last one {duration(now - changed)} ago"),
        ]
    )
    for job in shown:
        print()
        table(_tending(job, now) if job.kind == "tend" else _encoding(job))


def _shown(records: list[JobRecord]) -> list[JobRecord]:
    """All that are alive; where none is, the newest encode."""
    return [job for job in records if job.is_alive()] or [job for job in records if job.kind == "encode"][:1]


def _record(bank: Bank, shown: list[JobRecord], now: float, changed: float) -> dict:
    jobs = [
        asdict(job)
        | {
            "alive": job.is_alive(),
            "chunks_per_second": job.chunks_per_second,
            "eta_seconds": job.eta_seconds if job.is_alive() else None,
            "beat_age_seconds": now - job.beat,
        }
        for job in shown
    ]
    return {
        "bank": bank.folder.uri,
        "version": bank.version,
        "chunks": bank.count(),
        "active": any(job["alive"] for job in jobs),
        "last_commit_age_seconds": now - changed,
        "jobs": jobs,
    }


def _presence(job: JobRecord, now: float) -> str:
    seen = f"{duration(now - job.beat)} ago"
    if job.is_alive():
        return f"{job.kind} on {job.host}, process {job.pid}, {job.state}, heard of {seen}"
    if job.state == "finished":
        return f"none; the last one finished {seen}"
    if job.state in ("stopped", "failed"):
        return f"none; the last one {job.state} {seen}" + (f": {job.error}" if job.error else "")
    return f"none; the last one, process {job.pid} on {job.host}, is gone without a word, last heard of {seen}"


def _tending(job: JobRecord, now: float) -> list[tuple[str, str]]:
    return [("job", job.job), ("running", duration(now - job.started))]


def _encoding(job: JobRecord) -> list[tuple[str, str]]:
    rate = job.chunks_per_second
    rows = [
        ("job", f"{job.job}, {job.workers} workers" + (f" ({job.device})" if job.device else "")),
        ("planned", f"{job.units:,} units of about {job.chunks:,} chunks"),
        (
            "done",
            f"{job.done_units:,} units, {job.done_chunks:,} chunks committed, {job.encoded:,} encoded "
            f"({share(job.encoded / job.chunks if job.chunks else None)})",
        ),
        ("failed", f"{job.failed_units:,} units"),
        ("rejected", f"{job.rejected:,} documents"),
        ("rate", "-" if rate is None else f"{rate:,.1f} chunks/s"),
    ]
    if job.is_alive():
        rows.append(("ETA", duration(job.eta_seconds)))
    return rows
