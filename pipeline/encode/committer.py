"""The driver's loop: outcomes come in, finished units are committed many at a time, every few seconds.

A thread reads the outcomes, so that a commit is never late because the next unit is slow, and so that Ctrl-C commits
what is finished.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from model.refusal import Unavailable
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.encode.outcome import Outcome

TURN_SECONDS = 1.0
STOP_SECONDS = 20.0  # that the outcomes are given to end once they are asked to
_END = object()


class UnfinishableError(Unavailable):
    """No unit of this job can be done: a full disk, a folder that may not be written to."""


def commit_as_they_come(
    bank: Bank,
    outcomes: Iterable[Outcome],
    *,
    every: float = 5.0,
    on_wait: Callable[[], None] = lambda: None,
    on_commit: Callable[[int, float], None] = lambda units, seconds: None,
    stop: Callable[[], None] | None = None,
) -> Iterator[list[Outcome]]:
    """Commit the receipts among the outcomes every few seconds; yield each group once it is committed.

    On KeyboardInterrupt, and when it is closed early, what is finished is committed first. Raises UnfinishableError,
    after committing, when an outcome says that every other unit would fail alike; what `outcomes` raises comes through.
    `on_wait` is called every TURN_SECONDS while nothing comes, `on_commit` with the units and seconds of each commit.
    `stop` asks `outcomes` to end, from this thread; when this returns or raises, nobody waits for them any more.
    """
    arrivals: queue.Queue = queue.Queue()
    stopped = threading.Event()
    pump = threading.Thread(target=_pump, args=(outcomes, arrivals, stopped), daemon=True)
    pump.start()
    waiting: list[Outcome] = []
    due = time.monotonic() + every
    try:
        while True:
            arrived = _next(arrivals, due if waiting else None, on_wait)
            if isinstance(arrived, Outcome):
                waiting.append(arrived)
            over = arrived is _END or isinstance(arrived, BaseException) or _is_fatal(arrived)
            if waiting and (over or time.monotonic() >= due):
                committed = _commit(bank, waiting, on_commit)
                waiting, due = [], time.monotonic() + every
                yield committed
            if isinstance(arrived, BaseException):
                raise arrived
            if over:
                return
    except KeyboardInterrupt:
        if waiting := waiting + _drained(arrivals):
            yield _commit(bank, waiting, on_commit)
        raise
    except GeneratorExit:  # closed early: nobody is there to be told
        if waiting := waiting + _drained(arrivals):
            _commit(bank, waiting, on_commit)
        raise
    finally:
        stopped.set()
        if stop:
            stop()
            pump.join(STOP_SECONDS)


def _commit(bank: Bank, outcomes: list[Outcome], on_commit: Callable[[int, float], None]) -> list[Outcome]:
    started, receipts = time.monotonic(), [outcome.receipt for outcome in outcomes if outcome.receipt]
    made = {receipt.unit_id: receipt for receipt in commit(bank, receipts).receipts}
    if receipts:
        on_commit(len(receipts), time.monotonic() - started)
    fatal = next(filter(_is_fatal, outcomes), None)
    if fatal:
        raise UnfinishableError(fatal.failure.reason)
    return [_as_committed(outcome, made) for outcome in outcomes]


def _as_committed(outcome: Outcome, made: dict[str, Receipt]) -> Outcome:
    """The outcome with its receipt as the log has it: what was forgotten meanwhile was left out."""
    return replace(outcome, receipt=made.get(outcome.receipt.unit_id, outcome.receipt)) if outcome.receipt else outcome


def _is_fatal(arrived: object) -> bool:
    return isinstance(arrived, Outcome) and arrived.failure is not None and arrived.failure.fatal


def _pump(outcomes: Iterable[Outcome], arrivals: queue.Queue, stopped: threading.Event) -> None:
    """Until the outcomes end or nobody waits for more: an abandoned iterator of Ray Data's then stops its actors."""
    try:
        for outcome in outcomes:
            arrivals.put(outcome)
            if stopped.is_set():
                return
        arrivals.put(_END)
    except BaseException as error:  # handed to the thread that waits, which raises it
        arrivals.put(error)


def _next(arrivals: queue.Queue, due: float | None, on_wait: Callable[[], None]):
    """The next arrival; None when it is time to commit. Waits in turns: each `on_wait` asks the ledger."""
    end = math.inf if due is None else due
    while (left := end - time.monotonic()) > 0:
        try:
            return arrivals.get(timeout=min(left, TURN_SECONDS))
        except queue.Empty:
            on_wait()
    return None


def _drained(arrivals: queue.Queue) -> list[Outcome]:
    """The outcomes that have arrived by now."""
    found = []
    while True:
        try:
            found.append(arrivals.get_nowait())
        except queue.Empty:
            return [arrived for arrived in found if isinstance(arrived, Outcome)]
