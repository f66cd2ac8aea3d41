"""What a running encode exports to Prometheus, through Ray's own metrics: every node serves its processes' values.

Ray puts `ray_` before a name and `_total` behind a counter's: nextmem_chunks is scraped as ray_nextmem_chunks_total. A
process hands its values to its node every 10 seconds (RAY_metrics_report_interval_ms), so those of its last seconds may
be missing; the bank's log and the summary count exactly.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge, Histogram, Metric

from pipeline.encode.outcome import Outcome

COMMIT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
WORKER, DRIVER = ("bank", "worker"), ("bank",)


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: as docs/observe.md lists it and deploy/grafana/ draws it."""

    name: str
    kind: type[Metric]
    unit: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def scraped(self) -> str:
        """The name that Prometheus finds; a histogram has _bucket, _sum and _count of it."""
        return f"ray_{self.name}" + ("_total" if self.kind is Counter else "")

    def make(self, tags: dict[str, str]) -> Metric:
        given = {"boundaries": COMMIT_SECONDS} if self.kind is Histogram else {}
        return self.kind(self.name, self.meaning, tag_keys=self.labels, **given).set_default_tags(tags)


METRICS = (
    MetricSpec("nextmem_documents", Counter, "documents", WORKER, "documents encoded"),
    MetricSpec("nextmem_chunks", Counter, "chunks", WORKER, "chunks encoded, committed or not"),
    MetricSpec("nextmem_tokens", Counter, "tokens", WORKER, "tokens of those chunks"),
    MetricSpec("nextmem_padding_share", Gauge, "0 to 1", WORKER, "share of padding in the positions of the last unit"),
    MetricSpec("nextmem_busy_share", Gauge, "0 to 1", WORKER, "time in the last unit over time since the one before"),
    MetricSpec("nextmem_units", Counter, "units", DRIVER, "work units committed"),
    MetricSpec("nextmem_rejected", Counter, "documents", DRIVER, "documents rejected by the units committed"),
    MetricSpec("nextmem_failed_units", Counter, "units", DRIVER, "work units that could not be read or written"),
    MetricSpec("nextmem_planned_chunks", Gauge, "chunks", DRIVER, "chunks this job is to make, estimated"),
    MetricSpec("nextmem_done_chunks", Gauge, "chunks", DRIVER, "chunks this job has committed"),
    MetricSpec(
        "nextmem_commit_age_seconds", Gauge, "seconds", DRIVER, "since the last commit, or the first unit's start"
    ),
    MetricSpec("nextmem_commit_seconds", Histogram, "seconds", DRIVER, "what a commit takes"),
)


class WorkerMetrics:
    """Of one encoder, in its own process."""

    def __init__(self, bank: str, worker: str):
        self._made = _made(WORKER, {"bank": bank, "worker": worker})
        self._since = time.time()

    def add(self, outcome: Outcome) -> None:
        """A unit that has just been encoded. One that failed before it came here says nothing of this worker."""
        if not outcome.numbers:
            return
        now, numbers = time.time(), outcome.numbers
        if outcome.receipt:
            for name in ("documents", "chunks", "tokens"):
                _count(self._made[f"nextmem_{name}"], getattr(outcome.receipt, name))
        if numbers.get("positions"):
            self._made["nextmem_padding_share"].set(numbers.get("padding", 0) / numbers["positions"])
        self._made["nextmem_busy_share"].set(min(1.0, numbers["seconds"] / max(now - self._since, 1e-9)))
        self._since = now


class DriverMetrics:
    """Of the job as a whole, in the driver. Ray must be running."""

    def __init__(self, bank: str):
        self._made = _made(DRIVER, {"bank": bank})

    def committed(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            _count(self._made["nextmem_units"], int(outcome.receipt is not None))
            _count(self._made["nextmem_failed_units"], int(outcome.failure is not None))
            _count(self._made["nextmem_rejected"], outcome.receipt.rejected if outcome.receipt else 0)

    def commit_took(self, seconds: float) -> None:
        self._made["nextmem_commit_seconds"].observe(seconds)

    def set(self, *, planned_chunks: int, done_chunks: int, commit_age_seconds: float) -> None:
        self._made["nextmem_planned_chunks"].set(planned_chunks)
        self._made["nextmem_done_chunks"].set(done_chunks)
        self._made["nextmem_commit_age_seconds"].set(commit_age_seconds)


def _made(labels: tuple[str, ...], tags: dict[str, str]) -> dict[str, Metric]:
    return {metric.name: metric.make(tags) for metric in METRICS if metric.labels == labels}


def _count(counter: Counter, by: int) -> None:
    if by:  # Ray refuses to count nothing
        counter.inc(by)
