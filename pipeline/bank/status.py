"""Who is at work on a bank: what the jobs say of themselves, and when the log saw the last commit. Only reads."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.presence import JobRecord, job_records
from pipeline.bank.transaction_log import committed_at


@dataclass(frozen=True, slots=True)
class Status:
    """Of a bank and the jobs on it."""

    bank: str
    version: int
    chunks: int
    committed: float  # when this version was; seconds since the epoch
    jobs: tuple[JobRecord, ...]  # all that are alive; where none is, the newest encode

    @property
    def active(self) -> bool:
        """Whether any job is at work on the bank."""
        return any(job.is_alive() for job in self.jobs)


def status(bank: Bank) -> Status:
    """What is known of the bank's jobs at this moment."""
    records = job_records(bank.folder)
    shown = [job for job in records if job.is_alive()] or [job for job in records if job.kind == "encode"][:1]
    committed = committed_at(bank.folder, bank.version) / 1000
    return Status(bank.folder.uri, bank.version, bank.count(), committed, tuple(shown))
