"""`nextmem submit`, `jobs`, `logs` and `stop`: what they print, and how they end."""

from __future__ import annotations

import sys
import time
from datetime import datetime

import click

from jobs.cluster.follow import follow
from jobs.cluster.job_server import JobServer, SubmittedJob
from jobs.cluster.submit import Command, passed_on, require_cluster_paths, require_public, submit
from jobs.output import emit
from model.refusal import Unavailable

STOP_SECONDS = 90  # a job gets 60 to commit what is finished


def run_submit(
    command: Command, variables: dict[str, str], *, address: str | None, following: bool, as_json: bool
) -> int:
    """Exit code: 0 once it is submitted; the job's own where it is followed."""
    require_cluster_paths(command)
    require_public(variables)
    server, passed = JobServer(address), passed_on() | variables
    job_id = submit(server, command, passed)
    if as_json:
        emit({"event": "submitted", "id": job_id, "address": server.address, "command": command.text,
              "env": sorted(passed)})  # fmt: skip
    elif following:
        click.echo(f"submitted {job_id} to {server.address}", err=True)
    else:
        click.echo(job_id)
        click.echo(f"`{_hint(server, 'logs', job_id)} --follow` shows its log.", err=True)
    if passed and not as_json:
        click.echo(f"variables passed on: {', '.join(sorted(passed))}", err=True)
    return _follow(server, job_id, as_json) if following else 0


def run_logs(job_id: str, *, address: str | None, following: bool, as_json: bool) -> int:
    """Exit code: the job's where it is followed, else 0."""
    server = JobServer(address)
    server.job(job_id)
    if following:
        return _follow(server, job_id, as_json)
    text = server.log(job_id)
    if as_json:
        emit({"event": "log", "text": text})
    else:
        sys.stdout.write(text)  # as it stands, like the followed one: click would take its colours out
    return 0


def run_jobs(*, address: str | None, as_json: bool) -> None:
    found = JobServer(address).jobs()
    if as_json:
        for job in found:
            emit(_record(job))
        return
    rows = [("id", "status", "started", "took", "command"), *(_row(job) for job in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]))


def run_stop(job_id: str, *, address: str | None, as_json: bool) -> None:
    """Waits until it has ended. Raises TimeoutError where it does not."""
    server = JobServer(address)
    if not server.job(job_id).is_over:
        server.stop(job_id)
    end = time.monotonic() + STOP_SECONDS
    while not (job := server.job(job_id)).is_over:
        if time.monotonic() > end:
            raise Unavailable(f"{job_id} was asked to stop and is {job.status} after {STOP_SECONDS} s: look again")
        time.sleep(0.5)
    if as_json:
        emit(_record(job))
    else:
        click.echo(f"{job_id} {job.status}")


def _follow(server: JobServer, job_id: str, as_json: bool) -> int:
    try:
        job = follow(server, job_id, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(
            f"\nleft the log; {job_id} goes on. `{_hint(server, 'logs', job_id)} --follow` returns to it, "
            f"`{_hint(server, 'stop', job_id)}` stops it.",
            err=True,
        )
        raise
    if as_json:
        emit({"event": "ended"} | _record(job))
    else:
        click.echo(_ending(job), err=True)
    return _exit_code(job)


def _ending(job: SubmittedJob) -> str:
    again = "" if job.status == "SUCCEEDED" else "; the same command goes on where it stopped"
    # Ray's message repeats the end of the log, which has just been shown; without an exit code it is all there is
    reason = f": {job.message.splitlines()[0]}" if job.status == "FAILED" and job.exit_code is None else ""
    return f"{job.id} {job.status}{reason}{again}"


def _exit_code(job: SubmittedJob) -> int:
    """The command's own; 1 where it had none, as when it was stopped or its node died."""
    return 0 if job.status == "SUCCEEDED" else job.exit_code if job.exit_code and job.exit_code > 0 else 1


def _hint(server: JobServer, verb: str, job_id: str) -> str:
    return f"nextmem {verb} {job_id} --address {server.address}"


def _record(job: SubmittedJob) -> dict:
    return {"id": job.id, "status": job.status, "started": job.started, "ended": job.ended,
            "exit_code": job.exit_code, "command": job.command}  # fmt: skip


def _row(job: SubmittedJob) -> tuple[str, ...]:
    started = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M:%S") if job.started else "-"
    took = f"{(job.ended or time.time()) - job.started:.0f} s" if job.started else "-"
    return job.id, job.status, started, took, job.command
