"""The ledger: what a crash costs, and when it stops."""

from __future__ import annotations

from pipeline.bank.commit import Receipt
from pipeline.encode import ledger as attempts
from pipeline.encode.ledger import Ledger
from pipeline.encode.outcome import Failure, Outcome


def done(unit_id):
    return Outcome(Receipt(unit_id, (), documents=4, chunks=4, tokens=40))


def attempt(ledger, poison, documents=4):
    """One worker's life: encode every range of the unit, die on the poison. Returns what was begun."""
    ranges, left_out = ledger.begin("u", documents)
    for first, last in ranges:
        ledger.trying("u", first, last)
        if any(first <= bad < last for bad in poison if bad not in left_out):
            return None
    return ranges, left_out


def until_done(ledger, poison, documents=4):
    deaths = 0
    while (done := attempt(ledger, poison, documents)) is None:
        deaths += 1
        assert deaths < 100
    return *done, deaths


def test_a_unit_that_nothing_happens_to_is_one_range():
    assert attempt(Ledger(), poison=()) == ([(0, 4)], [])


def test_one_crash_is_forgiven():
    ledger = Ledger()
    attempt(ledger, poison=(2,))
    assert ledger.begin("u", 4) == ([(0, 4)], [])


def test_a_range_that_crashed_twice_is_halved():
    ledger = Ledger()
    attempt(ledger, poison=(2,))
    attempt(ledger, poison=(2,))
    assert ledger.begin("u", 4) == ([(0, 2), (2, 4)], [])


def test_the_poison_document_is_found_and_left_out_and_the_others_are_done():
    ranges, left_out, deaths = until_done(Ledger(), poison=(2,))
    assert left_out == [2]
    assert [n for first, last in ranges for n in range(first, last)] == [0, 1, 3]
    assert deaths == 6  # twice each: documents 0-3, 2-3, 2 alone


def test_a_range_under_suspicion_comes_after_the_others_so_that_they_pass_in_the_process_that_it_ends():
    ledger = Ledger()
    for _ in range(3):
        attempt(ledger, poison=(0,))
    assert ledger.begin("u", 4) == ([(2, 4), (0, 2)], [])  # (0, 2) has crashed once, and comes last from now on


def test_every_poison_document_is_found():
    ranges, left_out, _ = until_done(Ledger(), poison=(0, 5, 6), documents=7)
    assert sorted(left_out) == [0, 5, 6]
    assert [n for first, last in ranges for n in range(first, last)] == [1, 2, 3, 4]


def test_a_unit_of_nothing_but_poison_ends_with_no_ranges():
    ranges, left_out, _ = until_done(Ledger(), poison=(0, 1), documents=2)
    assert (ranges, sorted(left_out)) == ([], [0, 1])


def test_a_lone_document_is_left_out_after_its_second_crash():
    assert until_done(Ledger(), poison=(0,), documents=1) == ([], [0], 2)


def test_what_a_finished_unit_cost_is_forgotten_and_its_outcome_is_not():
    ledger = Ledger()
    attempt(ledger, poison=(2,))
    assert ledger.outcome("u") is None
    ledger.finished("u", done("u"))
    ledger.finished("u", done("u"))
    assert (ledger.outcome("u"), ledger.under_way()) == (done("u"), [])
    assert attempt(ledger, poison=()) == ([(0, 4)], [])


def test_a_unit_that_failed_may_be_tried_again():
    ledger = Ledger()
    ledger.finished("u", Outcome(failure=Failure("u", "the store is away")))
    assert ledger.outcome("u") is None


def test_the_latest_outcomes_are_kept(monkeypatch):
    monkeypatch.setattr(attempts, "REMEMBERED", 2)
    ledger = Ledger()
    for unit_id in "abc":
        ledger.finished(unit_id, done(unit_id))
    assert [ledger.outcome(unit_id) is None for unit_id in "abc"] == [True, False, False]


def test_units_do_not_share_their_crashes():
    ledger = Ledger()
    for _ in range(2):
        attempt(ledger, poison=(0,))
    assert ledger.begin("another", 3) == ([(0, 3)], [])


def test_a_document_is_proven_to_be_at_fault_when_it_failed_alike_in_two_processes():
    ledger = Ledger()
    assert ledger.failed("u", "one", {3: "KeyError"}) == set()
    assert ledger.failed("u", "one", {3: "KeyError"}) == set()  # sent twice
    assert ledger.failed("u", "two", {3: "IndexError", 4: "KeyError"}) == set()
    assert ledger.failed("u", "three", {3: "KeyError", 4: "IndexError"}) == {3}
    assert ledger.failed("another", "four", {3: "KeyError"}) == set()


def test_a_process_that_failed_at_a_unit_is_known_until_the_unit_is_done():
    ledger = Ledger()
    ledger.failed("u", "one")
    assert (ledger.has_failed("u", "one"), ledger.has_failed("u", "two"), ledger.has_failed("v", "one")) == (
        True,
        False,
        False,
    )
    ledger.finished("u", Outcome(failure=Failure("u", "in vain")))
    assert ledger.has_failed("u", "one")
    ledger.finished("u", done("u"))
    assert not ledger.has_failed("u", "one")
