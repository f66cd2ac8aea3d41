"""Rows of a bank are refined in place: exact before and after, whole commits, and a killed job goes on."""

from __future__ import annotations

import pyarrow as pa
import pytest
from works import VERIFYING, chunk_table

from model.config import RefineConfig
from pipeline import schema
from pipeline.bank import refine_bank
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.identity import codec_identity
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import recall
from pipeline.bank.refine_bank import BankRefiner
from pipeline.bank.upkeep import compact
from pipeline.bank.where import rows_where
from pipeline.encode.memorise import Memoriser

TEXTS = {f"doc-{n}": "One sentence after another. " * (n + 1) for n in range(4)}
OTHERS = {f"other-{n}": "Something else altogether. " * (n + 1) for n in range(2)}


def add_unit(bank, codec, unit_id, texts, **options):
    rows = Memoriser(codec, **options).memorise(chunk_table(codec, texts), unit_id)
    files = tuple(bank.writer().write(unit_id, rows))
    commit(bank, [Receipt(unit_id, files, len(texts), rows.num_rows)])


@pytest.fixture
def bank(tmp_path, codec, tiny_codec_folder):
    bank = Bank.create(tmp_path / "bank", codec_identity(tiny_codec_folder, VERIFYING))
    add_unit(bank, codec, "u1", TEXTS)
    add_unit(bank, codec, "u2", OTHERS)
    return bank


def columns(bank, *names):
    table = pa.Table.from_batches(Bank.open(bank.folder.uri).rows([*names]))
    return [tuple(row.values()) for row in table.to_pylist()]


def texts(bank, codec):
    found: dict[str, str] = {}
    for row in recall(Bank.open(bank.folder.uri).rows(), codec):
        assert row.exact
        found[row.doc_id] = found.get(row.doc_id, "") + row.text
    return found


def steps(bank):
    return [steps for (steps,) in columns(bank, schema.REFINE_STEPS)]


def test_every_row_is_refined_and_recalls_as_before(bank, codec):
    refiner = BankRefiner(bank, codec, RefineConfig(2))
    assert refiner.count() == bank.count()
    raised = list(refiner.refine())
    assert sum(each.rows for each in raised) == bank.count() == len(steps(bank))
    assert set(steps(bank)) == {2}
    assert texts(bank, codec) == TEXTS | OTHERS
    assert first_problems(Bank.open(bank.folder.uri)) == []


def test_no_patch_grows_and_the_sums_are_the_rows(bank, codec):
    before = dict(columns(bank, schema.CHUNK_ID, schema.PATCH))
    raised = list(BankRefiner(bank, codec, RefineConfig(6)).refine())
    after = dict(columns(bank, schema.CHUNK_ID, schema.PATCH))
    assert all(len(after[chunk]) <= len(patch) for chunk, patch in before.items())
    assert sum(each.patch_bytes_before for each in raised) == sum(map(len, before.values()))
    assert sum(each.patch_bytes for each in raised) == sum(map(len, after.values()))


def test_what_finds_a_row_and_whose_it_is_stay_as_they_were(bank, codec):
    kept = [name for name in bank.schema.names if name not in refine_bank.MADE]
    before = sorted(columns(bank, *kept), key=str)
    list(BankRefiner(bank, codec, RefineConfig(2)).refine())
    assert sorted(columns(bank, *kept), key=str) == before
    assert Bank.open(bank.folder.uri).finished_units() == {"u1", "u2"}


def test_a_job_that_stops_goes_on_and_does_nothing_twice(bank, codec, monkeypatch):
    monkeypatch.setattr(refine_bank, "PIECE", 3)
    first = next(BankRefiner(bank, codec, RefineConfig(2)).refine())
    assert (first.rows, steps(bank).count(2)) == (3, 3)
    again = BankRefiner(Bank.open(bank.folder.uri), codec, RefineConfig(2))
    rest = sum(each.rows for each in again.refine())
    assert first.rows + rest == bank.count()
    assert texts(bank, codec) == TEXTS | OTHERS
    assert BankRefiner(Bank.open(bank.folder.uri), codec, RefineConfig(2)).count() == 0


def test_rows_refined_by_fewer_steps_are_refined_further(bank, codec):
    list(BankRefiner(bank, codec, RefineConfig(1)).refine())
    list(BankRefiner(bank, codec, RefineConfig(3)).refine())
    assert set(steps(bank)) == {4}


def test_only_the_rows_asked_for_are_refined(bank, codec):
    where = rows_where(["doc_id = other-1"], bank.schema)
    list(BankRefiner(bank, codec, RefineConfig(1), where=where).refine())
    refined = {doc for doc, taken in columns(bank, schema.DOC_ID, schema.REFINE_STEPS) if taken is not None}
    assert refined == {"other-1"}


def test_refined_and_unrefined_rows_live_in_one_bank(bank, codec):
    add_unit(bank, codec, "u3", {"new": "Refined as it came in."}, refine=RefineConfig(1))
    assert {None, 1} == set(steps(bank))
    assert texts(bank, codec) == TEXTS | OTHERS | {"new": "Refined as it came in."}


def test_a_file_that_is_joined_meanwhile_is_left_and_its_rows_are_met_in_the_other(bank, codec, monkeypatch):
    """A compaction comes between reading the first file and its commit."""
    refiner, swap, raced = BankRefiner(bank, codec, RefineConfig(1)), refine_bank.swap, []

    def late(*arguments):
        if not raced:
            raced.append(compact(Bank.open(bank.folder.uri)))
        return swap(*arguments)

    monkeypatch.setattr(refine_bank, "swap", late)
    list(refiner.refine())
    assert raced == [2] and set(steps(bank)) == {1}
    assert texts(bank, codec) == TEXTS | OTHERS


def test_a_row_that_does_not_recall_is_counted_and_left(bank, codec, monkeypatch):
    monkeypatch.setattr(codec, "recall", lambda rows, whole=codec.recall: _spoiled(whole(rows)))
    raised = list(BankRefiner(bank, codec, RefineConfig(1)).refine())
    assert sum(each.inexact for each in raised) == bank.count()
    assert set(steps(bank)) == {None}


def _spoiled(recalled):
    return [type(each)(each.token_ids, False, each.carried) for each in recalled]
