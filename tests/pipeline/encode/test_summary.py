"""What a job did, added up; numbers that can be checked by eye."""

from __future__ import annotations

import pytest

from pipeline.bank.commit import Receipt
from pipeline.bank.unit_file import WrittenFile
from pipeline.encode.outcome import Failure, Outcome
from pipeline.encode.summary import Tally, summarise

NUMBERS = {
    "seconds": 2.0, "encode_seconds": 1.0, "limit": 100.0, "encode_flop": 40.0, "positions": 10, "padding": 1,
    "recalled": 2, "recalled_exactly": 1,
    "verified": 4, "fidelity": 3.0, "whole": 1, "carried": 2.0, "patch_bytes": 40,
}  # fmt: skip


def receipt(name="a", **values):
    files = (WrittenFile(f"part-{name}.parquet", 1000, 4, "{}"),)
    return Receipt(f"unit-{name}", files, documents=2, chunks=4, tokens=500, **values)


def summary(*outcomes, **options):
    tally = Tally()
    tally.add(outcomes)
    given = {"held": 3, "duplicates": 2, "replaced": 1, "seconds": 10.0, "start_up_seconds": 5.0}
    return summarise(tally, **given | options)


def test_counts_and_shares_are_over_all_outcomes():
    s = summary(
        Outcome(receipt("a"), worker="gpu 0", numbers=NUMBERS),
        Outcome(receipt("b", rejected=1), worker="gpu 1", numbers=NUMBERS),
    )
    assert (s.units, s.documents, s.chunks, s.tokens, s.rejected) == (2, 4, 8, 1000, 1)
    assert (s.held, s.duplicates, s.replaced) == (3, 2, 1)
    assert (s.tokens_per_second, s.bytes_per_chunk) == (100.0, 250.0)
    assert (s.fidelity, s.whole, s.carried, s.patch_bytes) == (0.75, 0.25, 0.5, 10.0)
    assert (s.padding, s.share_of_limit) == (0.1, 0.4)
    assert (s.recalled, s.recalled_exactly) == (4, 2)


def test_the_share_of_the_limit_weighs_workers_by_their_time():
    slow = NUMBERS | {"limit": 100.0, "encode_seconds": 3.0, "encode_flop": 150.0}
    fast = NUMBERS | {"limit": 300.0, "encode_seconds": 1.0, "encode_flop": 150.0}
    s = summary(Outcome(receipt("a"), numbers=slow), Outcome(receipt("b"), numbers=fast))
    assert s.share_of_limit == 300 / 600


def test_failures_are_counted_and_named():
    tally = Tally()
    tally.add([Outcome(failure=Failure("unit-x", "I/O error"))])
    assert tally.failures == [("unit-x", "I/O error")]
    assert summary(Outcome(failure=Failure("unit-x", "I/O error"))).failed_units == 1


def test_a_job_with_nothing_to_do_has_no_shares():
    s = summary(seconds=0.0)
    assert (s.chunks, s.tokens_per_second) == (0, 0.0)
    assert {s.share_of_limit, s.padding, s.bytes_per_chunk, s.fidelity, s.whole, s.carried, s.patch_bytes} == {None}
    assert s.cost_per_billion_tokens is None


def test_unverified_chunks_have_no_fidelity():
    s = summary(Outcome(receipt(), numbers={"seconds": 1.0, "encode_seconds": 1.0, "limit": 1.0, "positions": 4}))
    assert (s.fidelity, s.whole, s.carried) == (None, None, None)


@pytest.mark.parametrize("price, cost", [(None, None), (3.6, 20_000.0)])
def test_cost_is_of_all_workers_for_the_job_s_time(price, cost):
    outcomes = [Outcome(receipt(name), worker=name, numbers=NUMBERS) for name in "ab"]
    # 2 workers x 10 s x 3.6 an hour = 0.02 for 1,000 tokens
    assert summary(*outcomes, price_per_hour=price).cost_per_billion_tokens == (cost and pytest.approx(cost))


def test_a_summary_is_a_flat_record():
    record = summary(Outcome(receipt(), numbers=NUMBERS)).as_dict()
    assert record["chunks"] == 4 and all(not isinstance(value, dict | list) for value in record.values())
