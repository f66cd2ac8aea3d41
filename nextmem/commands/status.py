"""`nextmem status`: what the jobs on a bank say of themselves, and the transaction log of the bank."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import duration, emit, share, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from pipeline.bank.presence import JobRecord
    from pipeline.bank.status import Status


@click.command()
@click.argument("bank")
@as_json_option
def status(bank, as_json):
    """Who writes to BANK: planned, done, failed, rejected, rate, ETA, age of the last commit."""
    import nextmem

    with nextmem.open(bank) as opened:
        found, now = opened.status(), time.time()
    if as_json:
        emit(_record(found, now))
        return
    table(
        [
            ("bank", f"{found.bank}, version {found.version}, {found.chunks:,} chunks"),
            ("writer", "; ".join(_presence(job, now) for job in found.jobs) or "none, and none is remembered"),
            ("commit", f"the last one {duration(now - found.committed)} ago"),
        ]
    )
    for job in found.jobs:
        print()
        table(_encoding(job) if job.kind == "encode" else _looking_after(job, now))


def _record(found: Status, now: float) -> dict:
    jobs = [
        asdict(job)
        | {
            "alive": job.is_alive(),
            "chunks_per_second": job.chunks_per_second,
            "eta_seconds": job.eta_seconds if job.is_alive() else None,
            "beat_age_seconds": now - job.beat,
        }
        for job in found.jobs
    ]
    return {
        "bank": found.bank,
        "version": found.version,
        "chunks": found.chunks,
        "active": any(job["alive"] for job in jobs),
        "last_commit_age_seconds": now - found.committed,
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


def _looking_after(job: JobRecord, now: float) -> list[tuple[str, str]]:
    """Of a tend, and of a refine, which counts its chunks."""
    rows = [("job", job.job), ("running", duration(now - job.started))]
    if job.kind == "refine":
        rows.append(("done", f"{job.done_chunks:,} of {job.chunks:,} chunks committed"))
    return rows


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
