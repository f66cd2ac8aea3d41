"""How far one driver goes: encoders that take an H200's time for a unit and compute nothing.

    python -m benchmarks.paced --gpus 8
    python -m benchmarks.paced --gpus 256 --a-process 16

Ray Data's scheduling, the ledger, the unit files, the receipts and the commits are the job's own; left out are reading
text, arithmetic, and most of a file's bytes (a unit's file holds one row). An actor costs 100 MB and two seconds of CPU
to start, so many GPUs are simulated as several paced GPUs a process, each on a thread of its own. No more units are
under way at once than a window holds, and the job crosses several: encoders must outlive them.

The share of the ideal is how much of its time a GPU was busy, from when the last one had its first unit until the first
one got none any more: starting and running dry are left out. Default pace: 2,048 chunks of an 8B backbone at half of an
H200's rate, 10 s.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import ray

from benchmarks.harness import Report, options
from benchmarks.made_up import empty_bank, paced_actors, units
from jobs.cluster.session import keep_stdout, runtime_env, set_variables
from pipeline.encode.committer import commit_as_they_come
from pipeline.encode.encode import encode
from pipeline.encode.ledger import RemoteLedger
from pipeline.encode.outcome import Outcome

TARGETS = {8: 0.95, 32: 0.95, 64: 0.9, 256: 0.85}
SPARE_CPUS = 8  # logical, for readers and Ray's own


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--gpus", type=int, default=8, help="paced GPUs; default: %(default)s")
    parser.add_argument("--a-process", type=int, default=1, help="of them in one process; default: %(default)s")
    parser.add_argument("--unit-seconds", type=float, default=10.0)
    parser.add_argument("--units-a-gpu", type=int, default=12)
    parser.add_argument("--windows", type=int, default=4, help="that the units are; default: %(default)s")
    parser.add_argument("--commit-seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    report = Report("paced", arguments.json, gpus=arguments.gpus, a_process=arguments.a_process)
    with tempfile.TemporaryDirectory() as scratch:
        run = PacedRun(Path(scratch), arguments)
        run.run()
    busy, window = share_of_ideal(run.outcomes, arguments.gpus)
    report.line("units", len(run.outcomes))
    report.line("units under way at once", run.window)
    report.line("processes that encoders were loaded in", len({each.worker.partition("/")[0] for each in run.outcomes}))
    report.line("the time that counts", window, "s")
    report.line("driver's CPU", run.cpu_seconds / run.seconds, "cores")
    report.line("driver's memory", run.memory / 1e6, "MB")
    report.line("commits", len(run.commit_seconds))
    report.line("a commit, median", statistics.median(run.commit_seconds), "s")
    report.line("a commit, slowest", max(run.commit_seconds), "s")
    target = TARGETS.get(arguments.gpus)
    report.line(f"share of ideal throughput{f', target {target}' if target else ''}", busy)
    report.close()


class PacedRun:
    """One job of paced encoders, from its first unit to its last commit."""

    def __init__(self, scratch: Path, arguments):
        self.arguments, self.scratch = arguments, scratch
        self.processes, self.window = arguments.gpus // arguments.a_process, 0
        self.outcomes: list[Outcome] = []
        self.commit_seconds: list[float] = []

    def run(self) -> None:
        bank, encode_options = empty_bank(self.scratch, self.processes)
        set_variables()
        keep_stdout()
        ray.init(
            "local",
            num_cpus=self.processes + SPARE_CPUS,
            num_gpus=self.processes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=runtime_env(self.scratch),
        )
        driver = psutil.Process()
        before, start = driver.cpu_times(), time.monotonic()
        actors = paced_actors(self.arguments.unit_seconds, self.arguments.a_process)
        count = self.arguments.gpus * self.arguments.units_a_gpu
        self.window = -(-count // self.arguments.windows)
        outcomes = encode(units(count), encode_options, RemoteLedger(), actors=actors, window=self.window)
        for group in commit_as_they_come(
            bank,
            outcomes,
            every=self.arguments.commit_seconds,
            on_commit=lambda _, took: self.commit_seconds.append(took),
        ):
            self.outcomes += group
        after, self.seconds = driver.cpu_times(), time.monotonic() - start
        self.cpu_seconds = after.user + after.system - before.user - before.system
        self.memory = driver.memory_info().rss
        ray.shutdown()


def share_of_ideal(outcomes: Sequence[Outcome], gpus: int) -> tuple[float, float]:
    """(busy share of all GPUs, seconds of the window it is taken over)."""
    begun: dict[str, float] = {}
    last: dict[str, float] = {}
    for outcome in outcomes:
        begun[outcome.worker] = min(begun.get(outcome.worker, outcome.started), outcome.started)
        last[outcome.worker] = max(last.get(outcome.worker, 0.0), _end(outcome))
    if len(begun) < gpus:
        raise SystemExit(f"only {len(begun)} of {gpus} GPUs got a unit: give each more with --units-a-gpu")
    first, end = max(begun.values()), min(last.values())
    if end <= first:
        raise SystemExit("a GPU ran dry before the last one had begun: give each more with --units-a-gpu")
    busy = sum(max(0.0, min(_end(each), end) - max(each.started, first)) for each in outcomes)
    return busy / (gpus * (end - first)), end - first


def _end(outcome: Outcome) -> float:
    return outcome.started + outcome.numbers["seconds"]


if __name__ == "__main__":
    main()
