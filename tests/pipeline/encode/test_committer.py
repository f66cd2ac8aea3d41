"""The driver's loop: when it commits, and that nothing finished is lost, however the job ends."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from banks import IDENTITY, held, receipt

from pipeline.bank.bank import Bank
from pipeline.encode.committer import UnfinishableError, commit_as_they_come
from pipeline.encode.outcome import Failure, Outcome

LONG = 60.0  # seconds: longer than any test


@pytest.fixture
def bank(tmp_path):
    return Bank.create(tmp_path / "bank", IDENTITY)


def outcome(bank, name):
    return Outcome(receipt(bank, f"unit-{name}", {name: 2}), worker="actor 1")


def versions(bank):
    return Bank.open(bank.folder.uri).version


def units(groups):
    return [[o.receipt.unit_id if o.receipt else o.failure.unit_id for o in group] for group in groups]


def test_what_comes_within_the_interval_is_one_commit(bank):
    groups = list(commit_as_they_come(bank, (outcome(bank, name) for name in "abc"), every=LONG))
    assert units(groups) == [["unit-a", "unit-b", "unit-c"]]
    assert held(bank) == {"a": 2, "b": 2, "c": 2}
    assert versions(bank) == 1


def test_with_no_interval_every_unit_is_a_commit(bank):
    groups = list(commit_as_they_come(bank, (outcome(bank, name) for name in "abc"), every=0))
    assert units(groups) == [["unit-a"], ["unit-b"], ["unit-c"]]
    assert versions(bank) == 3


def test_a_group_is_handed_on_only_once_it_is_committed(bank):
    for group in commit_as_they_come(bank, (outcome(bank, name) for name in "ab"), every=0):
        assert all(Bank.open(bank.folder.uri).is_finished(each.receipt.unit_id) for each in group)


def test_a_slow_next_unit_does_not_delay_a_commit(bank):
    go_on = threading.Event()

    def outcomes():
        yield outcome(bank, "a")
        assert go_on.wait(LONG)
        yield outcome(bank, "b")

    groups = commit_as_they_come(bank, outcomes(), every=0.1)
    assert units([next(groups)]) == [["unit-a"]]  # b has not even begun
    assert held(bank) == {"a": 2}
    go_on.set()
    assert units(groups) == [["unit-b"]]


def test_nothing_is_committed_while_nothing_has_come(bank):
    assert list(commit_as_they_come(bank, iter(()), every=0)) == []
    assert versions(bank) == 0


def test_a_failure_is_handed_on_and_the_others_are_committed(bank):
    failed = Outcome(failure=Failure("unit-b", "I/O error"))
    groups = list(commit_as_they_come(bank, iter([outcome(bank, "a"), failed, outcome(bank, "c")]), every=LONG))
    assert units(groups) == [["unit-a", "unit-b", "unit-c"]]
    assert held(bank) == {"a": 2, "c": 2}
    assert not Bank.open(bank.folder.uri).is_finished("unit-b")


def test_a_fatal_failure_ends_the_job_after_committing_what_is_finished(bank):
    full = Outcome(failure=Failure("unit-b", "/bank: No space left on device", fatal=True))
    with pytest.raises(UnfinishableError, match="/bank: No space left on device"):
        list(commit_as_they_come(bank, iter([outcome(bank, "a"), full]), every=LONG))
    assert held(bank) == {"a": 2}


def test_a_fatal_failure_is_not_waited_with(bank):
    def outcomes():
        yield Outcome(failure=Failure("unit-a", "/bank: No space left on device", fatal=True))
        time.sleep(LONG)

    started = time.monotonic()
    with pytest.raises(UnfinishableError):
        list(commit_as_they_come(bank, outcomes(), every=LONG))
    assert time.monotonic() - started < LONG / 2


def test_what_the_workers_raise_comes_through_after_committing_what_is_finished(bank):
    def outcomes():
        yield outcome(bank, "a")
        raise LookupError("the cluster is gone")

    with pytest.raises(LookupError, match="the cluster is gone"):
        list(commit_as_they_come(bank, outcomes(), every=LONG))
    assert held(bank) == {"a": 2}


@pytest.fixture
def ctrl_c():
    """SIGINT raises KeyboardInterrupt, also where the tests run in the background and were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_commits_what_is_finished_and_goes_on(bank, ctrl_c):
    waiting = threading.Event()

    def outcomes():
        yield outcome(bank, "a")
        yield outcome(bank, "b")
        waiting.set()
        time.sleep(LONG)

    threading.Thread(target=lambda: waiting.wait() and signal.raise_signal(signal.SIGINT), daemon=True).start()
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for group in commit_as_they_come(bank, outcomes(), every=LONG):
            seen += group
    assert held(bank) == {"a": 2, "b": 2}
    assert units([seen]) == [["unit-a", "unit-b"]]  # the summary knows of them


def test_closed_early_it_commits_what_is_finished(bank):
    finished = threading.Event()

    def outcomes():
        yield outcome(bank, "a")
        yield outcome(bank, "b")
        finished.set()
        threading.Event().wait()

    groups = commit_as_they_come(bank, outcomes(), every=0)
    next(groups)
    finished.wait()
    groups.close()
    assert held(bank) == {"a": 2, "b": 2}


def test_it_has_the_outcomes_end_before_it_does(bank):
    """Whoever shuts Ray down next finds no thread that still asks it for work."""
    asked, ended = threading.Event(), threading.Event()

    def outcomes():
        yield outcome(bank, "a")
        asked.wait()
        time.sleep(0.3)  # it takes a while, and is waited for
        ended.set()
        raise RuntimeError("stopped")

    groups = commit_as_they_come(bank, outcomes(), every=0, stop=asked.set)
    next(groups)
    groups.close()
    assert ended.is_set()


def test_the_workers_are_asked_for_nothing_more_once_the_job_has_ended(bank):
    ended, closed = threading.Event(), threading.Event()

    def outcomes():
        try:
            yield Outcome(failure=Failure("unit-a", "/bank: No space left on device", fatal=True))
            ended.wait(LONG)
            yield Outcome(failure=Failure("unit-b", "/bank: No space left on device", fatal=True))
        finally:
            closed.set()

    with pytest.raises(UnfinishableError):
        list(commit_as_they_come(bank, outcomes(), every=0))
    ended.set()
    assert closed.wait(LONG)


def test_a_unit_that_the_bank_held_already_is_not_there_twice(bank):
    twice = outcome(bank, "a")
    list(commit_as_they_come(bank, iter([twice, twice]), every=0))
    assert held(bank) == {"a": 2}
