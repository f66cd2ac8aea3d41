"""What others see of a running encode: its record in the bank, its metrics, its log."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

from pipeline.bank.bank import Bank
from pipeline.bank.presence import Presence, active_jobs, how_it_ended, refuse_beside
from pipeline.bank.transaction_log import LOG
from pipeline.encode.forecast import Forecast
from pipeline.encode.job_log import log, log_unit, logging_to
from pipeline.encode.metrics import DriverMetrics
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import Outcome
from pipeline.encode.summary import Tally
from pipeline.plan.plan import WorkCounts
from pipeline.storage.folder import Folder


class Watch:
    """Around one job, inside Ray's session. Each method is a moment of it, in this order; all of them are cheap."""

    def __init__(self, uri: str, *, log_file: str | None):
        self._folder, self._log_file = Folder(uri), log_file
        self._presence = Presence(self._folder, "encode", on_beat=self._measure)
        self._metrics: DriverMetrics | None = None
        self._began: float | None = None  # the first unit

    def __enter__(self) -> Watch:
        with ExitStack() as stack:
            stack.enter_context(logging_to(self._log_file))
            stack.enter_context(self._presence)
            if self._folder.names(LOG):  # a job that is refused before it has a bank leaves nothing behind
                self._presence.begin(state="planning")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        level = logging.ERROR if how_it_ended(error) == "failed" else logging.INFO
        log("ended", level=level, bank=self._folder.uri, state=how_it_ended(error), error=str(error) if error else None)
        self._stack.__exit__(kind, error, traceback)

    def planned(self, bank: Bank, counts: WorkCounts) -> None:
        """Raises BusyError where the bank is being tended."""
        self._presence.begin(state="starting", units=counts.units, chunks=counts.chunks)
        refuse_beside(bank.folder, "tend")
        log("planned", bank=bank.folder.uri, units=counts.units, documents=counts.documents, chunks=counts.chunks)

    def is_second(self) -> bool:
        """Whether another encode job was at work on the bank before this one."""
        mine = self._presence.record
        others = active_jobs(self._folder, "encode", but=mine.job)
        return any((other.started, other.job) < (mine.started, mine.job) for other in others)

    def started(self, options: EncodeOptions) -> None:
        """Ray runs."""
        self._metrics = DriverMetrics(options.bank)
        workers = min(options.actors, self._presence.record.units)
        self._presence.update(workers=workers, device="gpu" if options.gpus else "cpu")

    def commit_took(self, units: int, seconds: float) -> None:
        self._metrics.commit_took(seconds)
        self._presence.update(last_commit=time.time())
        log("commit", bank=self._folder.uri, units=units, seconds=round(seconds, 3))

    def committed(self, group: list[Outcome]) -> None:
        self._began = min([outcome.started for outcome in group] + ([self._began] if self._began else []))
        self._metrics.committed(group)
        for outcome in group:
            log_unit("committed", outcome)

    def show(self, tally: Tally, forecast: Forecast, encoded: int) -> None:
        """The job as it stands now; others see it from the next beat on."""
        if encoded and self._began is None:
            self._began = time.time()
        self._presence.update(
            state="encoding" if self._began else "starting",
            chunks=max(forecast.chunks, encoded),
            done_units=tally.units,
            done_documents=tally.documents,
            done_chunks=tally.chunks,
            done_tokens=tally.tokens,
            encoded=encoded,
            rejected=tally.rejected,
            failed_units=len(tally.failures),
            seconds=time.time() - self._began if self._began else 0.0,
        )

    def _measure(self) -> None:
        record = self._presence.record
        since = record.last_commit or self._began
        if self._metrics is not None and since is not None:
            self._metrics.set(
                planned_chunks=record.chunks,
                done_chunks=record.done_chunks,
                commit_age_seconds=max(0.0, time.time() - since),
            )
