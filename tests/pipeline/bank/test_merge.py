"""Two banks become one: rows as they were, conflicts by rule, nothing encoded again."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pyarrow as pa
import pytest
from banks import ENCODED_AT, IDENTITY, held, receipt, rows, vacuum
from works import Works, jsonl

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.forget import forget
from pipeline.bank.history import history
from pipeline.bank.merge import merge
from pipeline.bank.presence import BusyError, Presence
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import list_names, rejected, write_rejected
from pipeline.bank.upkeep import compact
from pipeline.corpus.documents import Rejected
from pipeline.encode.bank_work import bank_work


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, "unit-a", {"a": 2, "b": 1})])
    return bank


@pytest.fixture
def other(tmp_path):
    other = Bank.create(tmp_path / "other", IDENTITY)
    commit(other, [receipt(other, "unit-c", {"c": 3}, seed=1)])
    return other


def contents(*banks):
    """Every row, all columns, sorted by chunk."""
    return pa.Table.from_batches(
        [batch for bank in banks for batch in Bank.open(bank.folder.uri).rows()], banks[0].schema
    ).sort_by("chunk_id")


def add_later(bank, unit_id, documents, text):
    """Rows of another text, encoded an hour after the others."""
    table = rows(unit_id, documents, text=text, seed=7)
    later = pa.array([ENCODED_AT + datetime.timedelta(hours=1)] * table.num_rows, table.schema.field("encoded_at").type)
    table = table.set_column(table.schema.get_field_index("encoded_at"), table.schema.field("encoded_at"), later)
    files = tuple(bank.writer().write(unit_id, table))
    commit(bank, [Receipt(unit_id, files, len(documents), table.num_rows)])


def test_all_rows_come_byte_for_byte_in_one_commit(bank, other, tmp_path):
    third = Bank.create(tmp_path / "third", IDENTITY)
    commit(third, [receipt(third, "unit-d", {"d": 1}, seed=2)])
    both, before = contents(bank, other, third), bank.version
    done = merge(bank, [other, third])
    assert (bank.version, done.brought, done.same, done.conflicts) == (before + 1, 2, 0, 0)
    assert contents(bank) == both and first_problems(bank) == []
    assert set(other.files()) < set(bank.files())
    newest = list(history(bank))[-1]
    assert (newest.done, newest.documents, newest.change) == ("merge", 2, 4)


def test_again_it_does_nothing_and_then_what_is_new(bank, other):
    merge(bank, [other])
    version = bank.version
    done = merge(bank, [other])
    assert (bank.version, done.brought, done.same) == (version, 0, 1)
    commit(other, [receipt(other, "unit-d", {"d": 2}, seed=3)])
    done = merge(bank, [other])
    assert (done.brought, done.same) == (1, 1) and held(bank) == {"a": 2, "b": 1, "c": 3, "d": 2}


def test_a_document_that_both_hold_alike_comes_once(bank, other):
    commit(other, [receipt(other, "unit-b", {"b": 1, "d": 1}, seed=9)])
    done = merge(bank, [other])
    assert (done.brought, done.same) == (2, 1)
    assert held(bank) == {"a": 2, "b": 1, "c": 3, "d": 1} and first_problems(bank) == []


@pytest.mark.parametrize(
    ("rule", "text", "replaced"), [("skip", "v1", 0), ("newest", "v2", 1)], ids=["the first bank's", "the newest"]
)
def test_of_two_texts_the_rule_keeps_one(bank, other, rule, text, replaced):
    add_later(other, "unit-b2", {"b": 2}, "v2")
    done = merge(bank, [other], on_conflict=rule)
    assert (done.brought, done.conflicts, done.replaced) == (1 + replaced, 1, replaced)
    wanted = rows("u", {"b": 1}, text=text)["doc_hash"][0].as_py()
    found = {row["doc_hash"] for row in contents(bank).to_pylist() if row["doc_id"] == "b"}
    assert found == {wanted} and first_problems(bank) == []
    assert held(bank)["b"] == 1 + replaced and held(bank)["a"] == 2


def test_an_older_text_does_not_replace_a_newer_one(bank, other):
    add_later(other, "unit-b2", {"b": 2}, "v2")
    done = merge(other, [bank], on_conflict="newest")
    assert (done.conflicts, done.replaced, held(other)) == (1, 0, {"a": 2, "b": 2, "c": 3})


def test_of_three_banks_the_newest_text_stays_wherever_it_stands(bank, other, tmp_path):
    third = Bank.create(tmp_path / "third", IDENTITY)
    add_later(other, "unit-b2", {"b": 2}, "v2")
    commit(third, [receipt(third, "unit-b3", {"b": 3, "e": 1}, text="v3")])
    done = merge(bank, [other, third], on_conflict="newest")
    assert (done.conflicts, done.replaced) == (2, 1)
    assert held(bank) == {"a": 2, "b": 2, "c": 3, "e": 1} and first_problems(bank) == []


def test_a_conflict_is_refused_by_name_and_changes_nothing(bank, other):
    add_later(other, "unit-b2", {"a": 1, "b": 2}, "v2")
    names, version = bank.folder.names(), bank.version
    with pytest.raises(Refusal, match=r"hold 2 documents with different texts \('a', ...\): say with --on-conflict"):
        merge(bank, [other])
    assert (bank.folder.names(), bank.version) == (names, version)


def test_another_codec_is_refused_with_both_sides(bank, tmp_path):
    other = Bank.create(tmp_path / "other", replace(IDENTITY, codec_hash="0ther", verify_precision="bf16"))
    with pytest.raises(Refusal, match=r"codec_hash: 'c0dec' and '0ther'; verify_precision: 'fp32' and 'bf16'"):
        merge(bank, [other])
    with pytest.raises(Refusal, match="is named twice: a bank cannot be merged into itself"):
        merge(bank, [bank])


def test_a_column_that_only_one_has_is_null_or_refused(bank, tmp_path):
    wide = Bank.create(tmp_path / "wide", IDENTITY, (pa.field("year", pa.int64()),))
    commit(wide, [receipt(wide, "unit-y", {"y": 2}, year=[1999, 1999])])
    with pytest.raises(Refusal, match=r"has the metadata column 'year' \(int64\), which is not there in"):
        merge(bank, [wide])
    merge(wide, [bank])
    years = {row["doc_id"]: row["year"] for row in contents(wide).to_pylist()}
    assert years == {"a": None, "b": None, "y": 1999} and first_problems(wide) == []


def test_units_and_lists_of_what_was_left_out_come_along(bank, other):
    left = Rejected("corpus.jsonl:9", "odd", "text is null", "")
    name = write_rejected(other.folder, "unit-r", [left])
    commit(other, [Receipt("unit-r", rejected=1, rejections=name)])
    merge(bank, [other])
    assert bank.finished_units() == {"unit-a", "unit-c", "unit-r"}
    assert bank.finished_documents() == {"unit-a": 2, "unit-c": 1, "unit-r": 0}
    assert list(rejected(bank)) == [left] and list_names(bank) == [name]


def test_what_was_joined_and_forgotten_merges_as_it_is(bank, other):
    commit(other, [receipt(other, "unit-d", {"d": 1, "e": 1}, seed=4)])
    compact(other)
    forget(other, ["d"])
    merge(bank, [other])
    assert held(bank) == {"a": 2, "b": 1, "c": 3, "e": 1}
    assert set(bank.forgotten().among(["a", "d", "e"])) == {"d"}
    vacuum(bank)
    assert first_problems(bank) == []


def test_what_one_has_forgotten_the_merged_bank_has_forgotten(bank, other, tmp_path):
    commit(bank, [receipt(bank, "unit-c", {"c": 1, "x": 1}, text="v9")])
    forget(bank, ["c"])
    commit(other, [receipt(other, "unit-b", {"b": 1, "d": 1}, seed=9)])
    forget(other, ["b"])
    third = Bank.create(tmp_path / "third", IDENTITY)
    commit(third, [receipt(third, "unit-d", {"d": 1, "e": 1}, text="v1")])
    forget(third, ["d"])
    done = merge(bank, [other, third])
    assert held(bank) == {"a": 2, "x": 1, "e": 1} and first_problems(bank) == []
    assert (done.brought, done.forgotten) == (1, 3)
    assert set(Bank.open(bank.folder.uri).forgotten().among("abcde")) == {"b", "c", "d"}
    version = bank.version
    assert merge(bank, [other, third]).brought == 0 and bank.version == version


def test_counts_of_replacements_grow_past_both(bank, other):
    commit(other, [receipt(other, "unit-c2", {"c": 1}, replaces=("c",), text="v2")])
    commit(other, [receipt(other, "unit-c3", {"c": 1}, replaces=("c",), text="v3")])
    merge(bank, [other])
    assert (other.replacements(), bank.replacements()) == (2, 3)


def test_a_commit_that_comes_between_is_kept(bank, other, monkeypatch):
    writer, real = Bank.open(bank.folder.uri), merge.__globals__["swap"]

    def swap(*arguments):
        monkeypatch.setitem(merge.__globals__, "swap", real)
        commit(writer, [receipt(writer, "unit-z", {"z": 1})])
        return real(*arguments)

    monkeypatch.setitem(merge.__globals__, "swap", swap)
    merge(bank, [other])
    assert held(bank) == {"a": 2, "b": 1, "c": 3, "z": 1} and first_problems(bank) == []


def test_an_encode_that_planned_before_the_merge_brings_nothing_twice(bank, other):
    """Its commit sees what came meanwhile, as of any other job."""
    job = Bank.open(bank.folder.uri)
    merge(bank, [other])
    commit(job, [receipt(job, "unit-c9", {"c": 3, "f": 1}, seed=5)])
    assert held(bank) == {"a": 2, "b": 1, "c": 3, "f": 1} and first_problems(job) == []


def test_no_merge_beside_a_tend(bank, other):
    with Presence(bank.folder, "tend") as presence:
        presence.begin(state="tending")
        with pytest.raises(BusyError, match="`nextmem tend` is at work"):
            merge(bank, [other])


def test_banks_on_an_object_store(place, bank):
    there = Bank.create(f"s3://{place}/bank", IDENTITY)
    commit(there, [receipt(there, "unit-c", {"b": 1, "c": 3}, seed=1)])
    merge(bank, [there])
    assert held(bank) == {"a": 2, "b": 1, "c": 3}
    empty = Bank.create(f"s3://{place}/empty", IDENTITY)
    merge(empty, [bank, there])
    assert contents(empty) == contents(bank)


@pytest.fixture
def corpora(tmp_path, tiny_codec_folder, works):
    """Two encoded corpora, of which both hold one document alike."""
    made = []
    for name, texts in (
        ("one", {"a": "The first text.", "b": "Both have it."}),
        ("two", {"b": "Both have it.", "c": "Z."}),
    ):
        (tmp_path / name).mkdir()
        each = Works(tmp_path / name, tiny_codec_folder, jsonl(tmp_path / f"{name}.jsonl", texts))
        commit(each.bank, [each.encode().receipt])
        made.append(each)
    return made


def test_a_rerun_of_either_corpus_encodes_nothing(corpora):
    one, two = corpora
    merge(one.bank, [two.bank])
    for each in corpora:
        counts = bank_work(each.plan, one.bank).counts
        assert (counts.units, counts.documents, counts.held) == (0, 0, 2)
