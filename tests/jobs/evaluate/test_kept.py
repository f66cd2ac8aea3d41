"""What was measured is kept, batch by batch."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evaluate.kept import FILE, Kept, Record, key_of
from model.refusal import Refusal


def doubled(made: list[int]):
    def make(batches: list[list[int]]):
        for places in batches:
            made.extend(places)
            yield places, [Record({"twice": 2 * i}, {"row": np.full((2, 2), i, np.float32)}) for i in places]

    return make


def test_records_come_back_as_they_were_and_nothing_is_made_twice(tmp_path):
    made: list[int] = []
    keys = [key_of(i) for i in range(5)]
    for _ in range(2):
        kept = Kept(tmp_path / FILE)
        records = kept.fill("memory", "me", keys, doubled(made), batch=2)
        kept.close()
        assert [record.says["twice"] for record in records] == [0, 2, 4, 6, 8]
        assert records[3].arrays["row"].tolist() == [[3, 3], [3, 3]]
    assert made == [0, 1, 2, 3, 4]


def test_what_was_made_before_an_error_is_kept(tmp_path):
    made: list[int] = []
    make = doubled(made)

    def failing(batches):
        for places in batches:
            if 2 in places:
                raise ValueError("the third one fails")
            yield from make([places])

    keys = [key_of(i) for i in range(4)]
    kept = Kept(tmp_path / FILE)
    with pytest.raises(ValueError, match="third"):
        kept.fill("memory", "me", keys, failing, batch=1)
    kept.close()
    kept = Kept(tmp_path / FILE)
    assert len(kept.fill("memory", "me", keys, make, batch=1)) == 4
    kept.close()
    assert made == [0, 1, 2, 3]


def test_one_key_twice_is_made_once_and_owners_do_not_share():
    made: list[int] = []
    kept = Kept(None)
    both = kept.fill("memory", "me", ["a", "a"], doubled(made), batch=8)
    assert both[0] == both[1] and made == [0]
    kept.fill("memory", "another", ["a"], doubled(made), batch=8)
    assert made == [0, 0]


def test_batches_are_made_in_the_given_order_and_told_of():
    made: list[int] = []
    told: list[tuple[int, int]] = []
    Kept(None).fill(
        "draft", "me", list("abcd"), doubled(made), batch=3, order=lambda i: -i, on_batch=lambda *n: told.append(n)
    )
    assert made == [3, 2, 1, 0] and told == [(3, 4), (4, 4)]


def test_few_places_are_parted_among_those_who_share_them_and_kept_as_they_come():
    batches: list[list[int]] = []

    def backwards(all_of_them):
        batches.extend(all_of_them)
        yield from reversed(list(doubled([])(all_of_them)))

    keys = [key_of(i) for i in range(40)]
    records = Kept(None).fill("draft", "me", keys, backwards, batch=128, shares=2)
    assert [len(places) for places in batches] == [20, 20]
    assert [record.says["twice"] for record in records] == [2 * i for i in range(40)]


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    (tmp_path / FILE).write_text("no database at all, but some text that is long enough to be read as a header")
    with pytest.raises(Refusal, match="remove it to begin anew"):
        Kept(tmp_path / FILE)


def test_a_key_is_of_all_its_parts():
    assert key_of("a", 1) == key_of("a", 1) != key_of("a", 2)
    assert key_of(["a", "b"]) != key_of("a", "b")
