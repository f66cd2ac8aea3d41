"""Which units are under way, and which are handed out again. The feed is a list that a test can look at."""

from __future__ import annotations

from pipeline.bank.commit import Receipt
from pipeline.encode.feed import AT_ONCE, NOBODY_READS, Units
from pipeline.encode.outcome import Failure, Outcome
from pipeline.encode.supply import HOPELESS, TRIES, Supply
from pipeline.plan.units import Unit


class ListFeed:
    def __init__(self):
        self.given: list[str] = []
        self.forgotten: list[int] = []
        self.closed = False

    def give(self, units):
        self.given += [unit.commit_id for unit in units]

    def forget(self, places):
        self.forgotten += places

    def close(self):
        self.closed = True


def units(count):
    return (Unit(f"u{number}", (), documents=1, chunks=1, bytes=1, rejected=0) for number in range(count))


def supplied(planned, feed, **how):
    supply = Supply(planned, **how)
    supply.hand_to(feed)
    return supply


def done(unit_id):
    return Outcome(Receipt(unit_id))


def failed(unit_id, **how):
    return Outcome(failure=Failure(unit_id, "the device is warm", **how))


def test_no_more_than_a_window_is_under_way_and_each_outcome_makes_room_for_one_more():
    feed, planned = ListFeed(), units(1_000_000)
    supply = supplied(planned, feed, window=3)
    assert feed.given == ["u0", "u1", "u2"]
    assert supply.settle(done("u1")) == done("u1")
    assert (feed.given, feed.forgotten, supply.under_way) == (["u0", "u1", "u2", "u3"], [1], 3)
    assert next(planned).unit_id == "u4"  # the plan is read no further


def test_the_feed_is_closed_once_the_last_unit_is_handed_out_though_none_is_done():
    feed = ListFeed()
    supplied(units(2), feed, window=3)
    assert feed.given == ["u0", "u1"] and feed.closed and feed.forgotten == []


def test_a_feed_with_as_many_units_as_the_window_is_closed_when_one_of_them_is_done():
    feed = ListFeed()
    supply = supplied(units(2), feed, window=2)
    assert not feed.closed
    supply.settle(done("u1"))
    assert feed.closed and supply.under_way == 1


def test_no_units_are_a_closed_feed():
    feed = ListFeed()
    supplied(units(0), feed, window=3)
    assert feed.closed and feed.given == []


def test_a_unit_that_failed_comes_again_through_a_feed_of_its_own():
    feed, second = ListFeed(), ListFeed()
    supply = supplied(units(3), feed, window=1)
    assert supply.settle(failed("u0")) is None
    supply.settle(done("u1"))
    supply.settle(done("u2"))
    assert feed.given == ["u0", "u1", "u2"] and feed.closed and feed.forgotten == [0, 1, 2]
    assert supply.wants_another_feed
    supply.hand_to(second)
    assert second.given == ["u0"]
    assert supply.settle(done("u0")) == done("u0")
    assert second.closed and second.forgotten == [0] and not supply.wants_another_feed


def test_the_last_failure_of_three_is_the_unit_s_outcome():
    supply, settled = supplied(units(1), ListFeed(), window=1), []
    for _ in range(TRIES):
        settled.append(supply.settle(failed("u0")))
        supply.hand_to(ListFeed())
    assert settled == [None, None, failed("u0")] and not supply.wants_another_feed


def test_what_would_fail_alike_is_not_tried_again():
    feed = ListFeed()
    supply = supplied(units(2), feed, window=2)
    assert supply.settle(failed("u0", lasting=True)) == failed("u0", lasting=True)
    assert supply.settle(failed("u1", fatal=True)) == failed("u1", fatal=True)
    assert feed.given == ["u0", "u1"] and feed.closed


def test_where_no_unit_succeeds_the_job_does_not_go_through_them_all():
    feed = ListFeed()
    supply = supplied(units(1000), feed, window=100, encoders=4)
    ended = None
    for unit_id in feed.given:  # grows as they are settled
        ended = supply.settle(failed(unit_id))
        if ended and ended.failure.fatal:
            break
    assert ended.failure.reason.startswith("20 tries in a row failed, the last because the device is warm")
    assert len(feed.given) == 120 and HOPELESS + 4 == 20


def test_failures_with_successes_between_them_end_nothing():
    feed = ListFeed()
    supply = supplied(units(400), feed, window=1)
    settled = [supply.settle(failed(u, lasting=True) if int(u[1:]) % 2 else done(u)) for u in feed.given]
    assert feed.closed and not any(each.failure and each.failure.fatal for each in settled)


def test_a_feed_gives_what_was_given_in_order_and_says_when_nothing_more_will_come():
    feed = Units()
    assert feed.take(0) == []
    feed.give(0, [b"a", b"b"])
    feed.give(2, [b"c"])
    assert (feed.take(0), feed.take(2), feed.take(3)) == ([b"a", b"b", b"c"], [b"c"], [])
    feed.close()
    assert (feed.take(2), feed.take(3)) == ([b"c"], None)


def test_whoever_begins_a_feed_anew_finds_what_is_not_done_at_its_place():
    feed = Units()
    feed.give(0, [b"a", b"b", b"c"])
    feed.forget([0, 1])
    feed.forget([1])
    feed.give(0, [b"a", b"b", b"c"])  # the answer to the first was lost
    assert feed.take(0) == [NOBODY_READS, NOBODY_READS, b"c"]


def test_a_feed_is_asked_for_many_at_once_and_not_for_all():
    feed = Units()
    feed.give(0, [b"x"] * 1000)
    assert len(feed.take(0)) == len(feed.take(700)) == AT_ONCE
