"""The encode stage: work units in, outcomes out. Ray Data schedules; an outcome is tiny, rows go to the bank's files.

    unit -> read + chunk (on a CPU) -> encode + write the unit's file (one a GPU) -> outcome -> the driver commits

One unit is one row is one Ray block, so that Ray cannot merge, split or reorder what a commit means. A job is one
execution, fed as its outcomes come (pipeline/encode/supply.py), and one more where units failed. Readers and encoders
hold no logic of their own: it is in pipeline/encode/read_work.py and pipeline/encode/encode_work.py.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import threading
import uuid
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.exceptions import RayTaskError

from model.refusal import Unavailable
from pipeline.encode.feed import RemoteFeed
from pipeline.encode.job_log import log, log_to_stderr, log_unit
from pipeline.encode.ledger import RemoteLedger
from pipeline.encode.metrics import WorkerMetrics
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import Outcome
from pipeline.encode.supply import Supply
from pipeline.plan.units import Unit

WINDOW, WINDOW_AN_ENCODER = 4000, 50  # units under way at once: a million one-block items cost minutes and gigabytes
A_ROW_A_BLOCK = 1  # bytes: Ray Data closes a block once it holds more
UNIT, CHUNKED, OUTCOME = "unit", "chunked", "outcome"
READERS_A_GPU = 4  # at most: Ray Data adds readers while encoders wait; not tuned on a GPU yet
NO_PROGRESS_SECONDS = 7200  # the longest a job waits for capacity before it ends with an error
STOP = "nextmem.stop"  # in Ray Data's context: the key of a job's Stop
RAISED = re.compile(  # as a traceback's last line begins
    r"(model\.refusal\.\w+|[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)): "
)
REFUSED = re.compile(r"model\.refusal\.\w+: ")  # what a person can mend, on the worker's machine
INIT_DEATHS = 8  # encoders that may die while loading before the job ends: spot nodes come and go


class UnitFeeder:
    """Ray Data actor: hands out units as they come, for the length of the job."""

    def __init__(self, feed: RemoteFeed):
        self.feed = feed

    def __call__(self, _: pa.Table) -> Iterator[pa.Table]:
        for unit in self.feed:
            yield _table(UNIT, unit)


class UnitReader:
    """Ray Data actor: reads and chunks a work unit."""

    def __init__(self, options: EncodeOptions):
        from pipeline.encode.read_work import ReadWork

        self.work = None if options.source else ReadWork(options)  # what is recalled, encoders read

    def __call__(self, row: pa.Table) -> pa.Table:
        unit = _value(row)
        return _row(CHUNKED, self.work.read(unit) if self.work else unit)


class UnitEncoder:
    """Ray Data actor: loads the codec once, then turns a chunked unit into a file of the bank and an outcome."""

    def __init__(self, options: EncodeOptions, ledger: RemoteLedger):
        import torch  # and transformers, in EncodeWork: seconds that the driver need not spend

        from pipeline.encode.encode_work import EncodeWork, WornOutError
        from pipeline.encode.recall_work import RecallWork

        log_to_stderr()  # which Ray keeps in a file of this worker's
        self.lost = (torch.AcceleratorError, WornOutError)
        worker = ray.get_runtime_context()
        gpus = worker.get_accelerator_ids().get("GPU", [])
        name = f"gpu {gpus[0]}" if gpus else f"actor {worker.get_actor_id()[:8]}"
        self.work = (RecallWork if options.source else EncodeWork)(options, ledger, worker=name)
        self.metrics = WorkerMetrics(options.bank, name)
        log("ready", worker=name, bank=options.bank)

    def __call__(self, row: pa.Table) -> pa.Table:
        try:
            outcome = self.work.encode(_value(row))
        except self.lost as error:  # no CUDA call of this process works any more, or it is not to be trusted with this
            event = "device lost" if isinstance(error, self.lost[0]) else "worn out"
            log(event, level=logging.ERROR, worker=self.work.worker, error=str(error))
            os._exit(1)  # Ray starts another, and hands it the unit
        self.metrics.add(outcome)
        log_unit("encoded", outcome)
        return _row(OUTCOME, outcome)


@dataclass(frozen=True, slots=True)
class Actors:
    """Which classes do the work. Others than ours only where a job is broken or paced on purpose."""

    reader: type[UnitReader] = UnitReader
    encoder: type[UnitEncoder] = UnitEncoder
    calls: int = 1  # of one encoder at a time, each on a thread of its own


_STOPS: weakref.WeakValueDictionary[str, Stop] = weakref.WeakValueDictionary()


class Stop:
    """Ends one `encode`, from any thread: nothing may ask Ray for work while it shuts down."""

    def __init__(self) -> None:
        self.key = uuid.uuid4().hex  # by which Ray Data's loop finds it: what a DataContext holds is copied
        self._asked = threading.Event()
        _STOPS[self.key] = self

    def ask(self) -> None:
        """Have the iterator of `encode` raise StoppedError soon."""
        self._asked.set()

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()


class StoppedError(RuntimeError):
    """The `stop` of this `encode` was asked."""


def encode(
    units: Iterable[Unit],
    options: EncodeOptions,
    ledger: RemoteLedger,
    *,
    actors: Actors | None = None,
    stop: Stop | None = None,
    window: int | None = None,
) -> Iterator[Outcome]:
    """Outcomes of the units as they finish, in any order. Lazy: units are taken as others are done.

    A unit that fails is tried again once all others are done, by other processes. Raises WorkerError where a worker
    raises what it has no answer to, StoppedError once `stop` is asked. `window`: units under way at once, if another
    number is wanted than the usual.
    """
    actors, stop = actors or Actors(), stop or Stop()
    window = window or max(WINDOW, WINDOW_AN_ENCODER * options.actors)
    supply = Supply(units, window=window, encoders=options.actors)
    yield from _round(supply, options, ledger, actors, stop)
    while supply.wants_another_feed:
        yield from _round(supply, options, ledger, actors, stop)


def _round(
    supply: Supply, options: EncodeOptions, ledger: RemoteLedger, actors: Actors, stop: Stop
) -> Iterator[Outcome]:
    """One execution: of all units, or of those that failed in the one before."""
    feed = RemoteFeed()
    supply.hand_to(feed)
    encoders = min(options.actors, max(1, supply.under_way))
    try:
        for outcome in _execution(feed, encoders, options, ledger, actors, stop):
            if settled := supply.settle(outcome):
                yield settled
        if stop.is_asked:
            raise StoppedError
    except RayTaskError as error:
        cause = _cause(error)
        refusal = REFUSED.search(cause)
        raise (Unavailable(REFUSED.sub("", cause)) if refusal else WorkerError(cause)) from error
    finally:
        feed.end()


class _StopWhenAsked(ExecutionCallback):
    """Ends Ray Data's loop on the loop's own thread, and the iterator that waits for it. Ray has no call for that.

    It also clears what Ray Data notes of every block for a report at the end: a kilobyte a unit.
    """

    def before_execution_starts(self, executor) -> None:
        self.stop = _STOPS[executor._data_context.get_config(STOP)]

    def on_execution_step(self, executor) -> None:
        if self.stop.is_asked:
            raise SystemExit  # ends a thread without a word; Ray prints the trace of any other error
        for operator in executor._topology:
            getattr(operator, "_output_blocks_stats", []).clear()


class WorkerError(RuntimeError):
    """A reader or an encoder raised. Its whole traceback is in Ray's logs, and in this error's cause."""


def _execution(
    feed: RemoteFeed, encoders: int, options: EncodeOptions, ledger: RemoteLedger, actors: Actors, stop: Stop
) -> Iterator[Outcome]:
    _configure()
    dataset = ray.data.from_blocks([_table("begin", b"")])
    context = dataset.context  # a copy of its own: another dataset of this process has another
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, _StopWhenAsked]
    context.set_config(STOP, stop.key)
    context.target_max_block_size = A_ROW_A_BLOCK
    readers = READERS_A_GPU * options.actors if options.gpus else 1
    resources = {"num_gpus": 1, "num_cpus": 1} if options.gpus else {"num_cpus": options.threads}
    outcomes = (
        dataset.map_batches(
            UnitFeeder,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=0,
            compute=ActorPoolStrategy(size=1),
            fn_constructor_args=(feed,),
        )
        .map_batches(
            actors.reader,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1 if options.gpus else 0,  # encoders on CPUs may hold every one, and would wait for it for ever
            compute=ActorPoolStrategy(min_size=1, max_size=readers),
            fn_constructor_args=(options,),
        )
        .map_batches(
            actors.encoder,
            batch_size=1,
            batch_format="pyarrow",
            compute=_encoders(encoders, options, actors.calls),
            fn_constructor_args=(options, ledger),
            label_selector={"pool": options.pool} if options.pool else None,
            **resources,
        )
    )
    # Nothing is fetched ahead: an outcome held back would hold back the unit that is handed out for it, and the end.
    for block in outcomes.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from map(pickle.loads, block.column(OUTCOME).to_pylist())


def _encoders(size: int, options: EncodeOptions, calls: int) -> ActorPoolStrategy:
    """On a GPU one unit more than it works on waits at each encoder."""
    if calls > 1:
        return ActorPoolStrategy(
            size=size,
            max_concurrent_calls_per_actor=calls,
            max_tasks_in_flight_per_actor=2 * calls,
            enable_true_multi_threading=True,
        )
    return ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2 if options.gpus else 1)


def _cause(error: RayTaskError) -> str:
    """What a worker raised first, without the tracebacks of everything that passed it on."""
    raised = [line for line in str(error).splitlines() if RAISED.match(line)]
    return f"a worker of this job failed: {raised[0] if raised else type(error).__name__}"


def _row(name: str, value: object) -> pa.Table:
    return _table(name, pickle.dumps(value))


def _table(name: str, content: bytes) -> pa.Table:
    """A table of one row that Ray cannot split, and whose bytes it does not look into."""
    return pa.table({name: pa.array([content], pa.large_binary())})


def _value(row: pa.Table) -> object:
    return pickle.loads(row.column(0)[0].as_py())


def _configure() -> None:
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # importing ray.data sets it to INFO, on stderr
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_SECONDS
    context.max_consecutive_actor_init_deaths = INIT_DEATHS
    context.max_errored_blocks = 0  # never drop
