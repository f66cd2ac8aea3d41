"""A bank's past: which versions there are, what was done, what changed, and how to go back."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from banks import IDENTITY, held, receipt, vacuum
from works import jsonl

from model.refusal import Missing, Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.commit import commit
from pipeline.bank.diff import Change, Diff
from pipeline.bank.forget import forget
from pipeline.bank.history import history
from pipeline.bank.opened import open_bank
from pipeline.bank.presence import BusyError, Presence
from pipeline.bank.problems import first_problems
from pipeline.bank.restore import restore
from pipeline.bank.upkeep import compact
from pipeline.bank.versions import kept_versions
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode.bank_work import bank_work
from pipeline.plan.plan import plan_corpus

CONTENTS = {0: {}, 1: {"a": 2}, 2: {"a": 2, "b": 3}, 3: {"b": 3}, 4: {"b": 3, "c": 1}, 5: {"b": 3, "c": 1}}


@pytest.fixture
def bank(tmp_path):
    """Six versions: CONTENTS says what each holds."""
    return lived(Bank.create(tmp_path / "bank", IDENTITY))


def lived(bank):
    commit(bank, [receipt(bank, "unit-a", {"a": 2})])
    commit(bank, [receipt(bank, "unit-b", {"b": 3})])
    forget(bank, ["a"])
    commit(bank, [receipt(bank, "unit-c", {"c": 1})])
    compact(bank)
    return bank


def restored(version):
    """What a version held, without the document that was forgotten in version 3."""
    return {doc_id: chunks for doc_id, chunks in CONTENTS[version].items() if doc_id != "a"}


def at(bank, version):
    found = open_bank(bank.folder.uri, version=version)
    count = {}
    for batch in found.rows(["doc_id"]):
        for doc_id in batch.column(0).to_pylist():
            count[doc_id] = count.get(doc_id, 0) + 1
    return count


def age(bank, *hours):
    """Give each commit its own age in hours, the oldest first."""
    for version, ago in enumerate(hours):
        path = Path(bank.folder.uri, f"_delta_log/{version:020d}.json")
        was = open_bank(bank.folder.uri).table.history()[-1 - version]["timestamp"]
        then = int((datetime.now(UTC) - timedelta(hours=ago)).timestamp() * 1000)
        path.write_text(path.read_text().replace(f'"timestamp":{was}', f'"timestamp":{then}'))


def test_history_says_what_each_version_did_and_how_many_chunks_it_has(bank):
    found = list(history(bank))
    assert [each.version for each in found] == list(CONTENTS)
    assert [each.done for each in found] == ["make", "encode", "encode", "forget", "encode", "tend"]
    assert [each.documents for each in found] == [None, 1, 1, 1, 1, None]
    assert [each.chunks for each in found] == [sum(CONTENTS[version].values()) for version in CONTENTS]
    assert [each.change for each in found] == [0, 2, 3, -2, 1, 0]
    assert found == sorted(found, key=lambda each: each.time)


def test_every_version_that_is_kept_opens_with_its_own_rows(bank):
    assert {version: at(bank, version) for version in kept_versions(bank.folder)} == CONTENTS


def test_a_time_opens_the_newest_version_of_then(bank):
    age(bank, 50, 40, 30, 20, 10, 0)
    now = datetime.now(UTC)
    for ago, version in ((45, 0), (35, 1), (25, 2), (15, 3), (5, 4)):
        assert open_bank(bank.folder.uri, time=now - timedelta(hours=ago)).version == version
    text = (now - timedelta(hours=15)).replace(tzinfo=None).isoformat()  # UTC where no zone is named
    assert open_bank(bank.folder.uri, time=text).version == 3
    with pytest.raises(Missing, match=r"no version of .*the oldest that is kept, 0, is of"):
        open_bank(bank.folder.uri, time=now - timedelta(hours=60))
    with pytest.raises(Refusal, match="lies in the future"):
        open_bank(bank.folder.uri, time=now + timedelta(hours=1))
    with pytest.raises(Refusal, match="'yesterday' is no time: wanted ISO 8601"):
        open_bank(bank.folder.uri, time="yesterday")


def test_a_version_that_is_not_there_gets_one_clear_answer(bank):
    with pytest.raises(Refusal, match="no version 6 yet: its newest is 5"):
        open_bank(bank.folder.uri, version=6)
    with pytest.raises(Refusal, match="version -1 cannot be"):
        open_bank(bank.folder.uri, version=-1)
    vacuum(bank)
    with pytest.raises(Missing, match=r"version 4 of .* was cleaned: 2 of its files are gone \(part-unit-b"):
        open_bank(bank.folder.uri, version=4)
    assert at(bank, 5) == CONTENTS[5]


def test_a_version_from_before_the_log_was_cut_is_cleaned(bank):
    bank.table.create_checkpoint()
    for version in range(4):
        os.remove(Path(bank.folder.uri, f"_delta_log/{version:020d}.json"))
    assert list(kept_versions(bank.folder)) == [5]  # the checkpoint's; 4 has lost what it builds on
    with pytest.raises(Missing, match="its log reaches back to version 5, the newest is 5"):
        open_bank(bank.folder.uri, version=2)
    (only,) = history(bank)
    assert (only.version, only.done, only.chunks, only.change) == (5, "tend", 4, 4)


def test_a_diff_names_what_was_added_changed_and_gone(bank):
    commit(bank, [receipt(bank, "unit-b2", {"b": 2, "d": 1}, replaces=("b",), text="v2")])
    found = Diff(open_bank(bank.folder.uri, version=2), bank)
    assert (found.added, found.changed, found.gone) == (2, 1, 1)
    assert list(found) == [Change("c", "added"), Change("d", "added"), Change("b", "changed"), Change("a", "gone")]
    back = Diff(bank, open_bank(bank.folder.uri, version=2))
    assert (back.added, back.changed, back.gone) == (1, 1, 2)


def test_rows_that_were_only_joined_are_no_change_and_shared_files_are_not_read(bank):
    joined = Diff(open_bank(bank.folder.uri, version=4), bank)
    assert (list(joined), joined.files) == ([], 3)
    later = Diff(open_bank(bank.folder.uri, version=1), open_bank(bank.folder.uri, version=2))
    assert (list(later), later.files) == ([Change("b", "added")], 1)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 5])
def test_restoring_gives_a_version_s_rows_in_one_commit(bank, version):
    done = restore(bank, open_bank(bank.folder.uri, version=version))
    assert held(bank) == restored(version) and first_problems(bank) == []
    assert (done.restored, done.version) == (version, 5 if version == 5 else 6)
    assert (done.chunks_before, done.chunks) == (4, sum(restored(version).values()))
    newest = list(history(bank))[-1]
    assert newest.done == ("tend" if version == 5 else "restore")
    assert (newest.version, newest.chunks) == (done.version, done.chunks)


def test_what_was_restored_away_can_be_restored(bank):
    restore(bank, open_bank(bank.folder.uri, version=1))
    restore(bank, open_bank(bank.folder.uri, version=5))
    assert held(bank) == CONTENTS[5] and bank.version == 7


def test_what_was_forgotten_since_stays_forgotten(bank):
    """Also a neighbour of it in a file that comes back."""
    commit(bank, [receipt(bank, "unit-e", {"e": 1, "f": 2})])
    forget(bank, ["f", "c"])
    done = restore(bank, open_bank(bank.folder.uri, version=6))
    assert held(bank) == {"b": 3, "e": 1} and first_problems(bank) == []
    assert (done.forgotten, done.chunks, set(bank.forgotten().among("abcef"))) == (2, 4, {"a", "c", "f"})
    bring_back(bank, ["f"])
    assert held(bank) == {"b": 3, "e": 1, "f": 2}


def test_restored_rows_stay_when_the_bank_is_tended(bank):
    restore(bank, open_bank(bank.folder.uri, version=2))
    vacuum(bank)
    assert held(bank) == restored(2) and first_problems(bank) == []
    compact(bank)
    vacuum(bank)
    assert held(bank) == restored(2) and first_problems(bank) == []


def test_what_was_tended_away_is_refused_by_name(bank):
    old = open_bank(bank.folder.uri, version=2)
    vacuum(bank)
    with pytest.raises(Missing, match=r"version 2 of .* was cleaned: 2 of its files are gone \(part-unit-a"):
        restore(bank, old)
    assert bank.version == 5 and held(bank) == CONTENTS[5]


def test_no_restore_beside_another_job(bank):
    with Presence(bank.folder, "tend") as presence:
        presence.begin(state="tending")
        with pytest.raises(BusyError, match="`nextmem tend` is at work"):
            restore(bank, open_bank(bank.folder.uri, version=2))
    assert bank.version == 5


def test_a_restore_meets_a_commit_that_comes_between(bank, monkeypatch):
    """The newest version's files are what leaves, whichever came last."""
    other, real = Bank.open(bank.folder.uri), restore.__globals__["swap"]

    def swap(*arguments):
        monkeypatch.setitem(restore.__globals__, "swap", real)
        commit(other, [receipt(other, "unit-d", {"d": 1})])
        return real(*arguments)

    monkeypatch.setitem(restore.__globals__, "swap", swap)
    restore(bank, open_bank(bank.folder.uri, version=1))
    assert held(bank) == restored(1) and bank.version == 7


def test_versions_on_an_object_store(place):
    bank = lived(Bank.create(f"s3://{place}/bank", IDENTITY))
    assert [each.chunks for each in history(bank)] == [sum(each.values()) for each in CONTENTS.values()]
    assert list(Diff(open_bank(bank.folder.uri, version=1), bank)) == [
        *(Change("b", "added"), Change("c", "added"), Change("a", "gone"))
    ]
    restore(bank, open_bank(bank.folder.uri, version=2))
    assert held(bank) == restored(2)


def test_a_rerun_on_a_restored_bank_does_what_it_would_have_done_then(tmp_path, works):
    """Encoded, changed and grown, restored: the same corpus again brings the change and the growth back."""
    texts = {"a": "The first text.", "b": "Another one."}
    made = works(texts)
    commit(made.bank, [made.encode().receipt])
    grown = {"a": "The first text, mended.", "b": "Another one.", "c": "A third."}

    def rerun(documents):
        corpus = jsonl(tmp_path / "corpus.jsonl", documents)
        plan = plan_corpus([str(corpus)], ColumnRoles(), unit_chunks=1000, folder=str(tmp_path / "plan"))
        work = bank_work(plan, made.bank)
        for unit in work.units():
            commit(made.bank, [made.encode(unit).receipt])
        return work.counts.documents, work.counts.held, work.counts.changed

    assert rerun(grown) == (2, 1, 1)
    after = held(made.bank)
    restore(made.bank, open_bank(made.bank.folder.uri, version=1))
    assert set(held(made.bank)) == {"a", "b"}
    assert rerun(texts) == (0, 2, 0)  # as it was encoded then: nothing to do
    assert rerun(grown) == (2, 1, 1) and held(made.bank) == after and first_problems(made.bank) == []
    assert rerun(grown) == (0, 3, 0)
