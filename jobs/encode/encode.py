"""`nextmem encode`: plan the corpus, encode what the bank lacks, commit as it comes, say what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from jobs.cluster.session import Cluster, Session
from jobs.encode.planning import prepare
from jobs.encode.progress import EncodeProgress
from jobs.encode.request import EncodeRequest
from jobs.encode.watch import Watch
from jobs.settings import EncodeSettings
from pipeline.bank.bank import PLAN, Bank
from pipeline.corpus.spool import remove_spools
from pipeline.encode.committer import commit_as_they_come
from pipeline.encode.encode import Stop, encode
from pipeline.encode.forecast import Forecast
from pipeline.encode.ledger import RemoteLedger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.sample import found_a_guess
from pipeline.encode.stalled import Patience
from pipeline.encode.summary import Summary, Tally, summarise
from pipeline.plan.plan import Work
from pipeline.storage import storage


@dataclass(frozen=True, slots=True)
class EncodeResult:
    summary: Summary
    failures: tuple[tuple[str, str], ...]  # (unit id, reason)
    bank: str
    codec: str  # its identity
    passed_over: dict[str, int] = field(default_factory=dict)  # files of other formats in folders, by ending

    @property
    def complete(self) -> bool:
        summary = self.summary
        return not self.failures and not summary.rejected and summary.recalled == summary.recalled_exactly


def run_encode(
    request: EncodeRequest,
    *,
    on_progress: Callable[[EncodeProgress], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> EncodeResult:
    """Encode the corpus into the bank; what the bank holds already is not done again. Prints nothing.

    `on_progress` is told how far the job is, about once a second; `say` what it waits for.
    Raises ValueError, FileNotFoundError or OSError for what a person can mend, KeyboardInterrupt after committing.
    """
    started = time.monotonic()
    uri, settings = storage.absolute(request.bank), request.settings
    tally = Tally()
    with (
        Session(request.pool, metrics_port=settings.metrics_port, say=say) as session,
        Watch(uri, log_file=settings.log_file) as watch,
    ):
        prepared = prepare(request, uri, session)
        bank, work = prepared.bank, prepared.work
        watch.planned(bank, work.counts)
        began = time.monotonic()
        if work.counts.units:
            options = prepared.options(request, session.start())
            if awaited := _awaited(options, prepared.cluster):
                say(awaited)
            began = _encode(bank, work, options, settings, tally, watch, on_progress or (lambda now: None))
        if not tally.failures:
            remove_spools(bank.folder, PLAN)
        ended = time.monotonic()
    summary = summarise(
        tally,
        held=work.counts.held,
        duplicates=prepared.plan.counts.duplicates,
        replaced=work.counts.changed,
        forgotten=work.counts.forgotten,
        seconds=ended - began,
        start_up_seconds=began - started,
        price_per_hour=settings.price_per_hour,
    )
    passed_over = prepared.plan.counts.passed_over
    return EncodeResult(summary, tuple(tally.failures), uri, bank.identity.codec_hash, passed_over)


def _encode(
    bank: Bank,
    work: Work,
    options: EncodeOptions,
    settings: EncodeSettings,
    tally: Tally,
    watch: Watch,
    on_progress: Callable[[EncodeProgress], object],
) -> float:
    """Returns when the first unit began to be encoded: what came before it is start-up."""
    forecast = Forecast(work.counts.chunks, 1.0 if options.source else found_a_guess(work, options))
    began, ledger = None, RemoteLedger()
    patience = Patience(settings.stall_minutes, ledger.under_way)
    watch.started(options)

    def show() -> None:
        encoded = max(tally.chunks, ledger.total())
        patience.look(encoded, tally.units, len(tally.failures))
        on_progress(EncodeProgress(encoded, max(forecast.chunks, encoded), tally.rejected))
        watch.show(tally, forecast, encoded)

    stop = Stop()
    outcomes = encode(forecast.watching(work.units(backwards=watch.is_second())), options, ledger, stop=stop)
    every, took = settings.commit_seconds, watch.commit_took
    groups = commit_as_they_come(bank, outcomes, every=every, on_wait=show, on_commit=took, stop=stop.ask)
    try:
        with closing(groups):  # an interrupt that falls in between commits too
            for group in groups:
                began = began or min(outcome.started for outcome in group)
                tally.add(group)
                forecast.add(group)
                watch.committed(group)
                show()
    finally:
        ledger.end()
    return time.monotonic() if began is None else time.monotonic() - (time.time() - began)


def _awaited(options: EncodeOptions, cluster: Cluster) -> str | None:
    """What the job waits for before it can begin, in a line."""
    if not options.gpus or options.actors <= cluster.gpus:
        return None
    where = f" on nodes with the label pool={options.pool}" if options.pool else ""
    return f"waiting for {options.actors} GPUs{where}; {cluster.gpus} in the cluster now"
