"""Banks made before rows said how far they are refined: they open, take rows, and get the column once it is needed."""

from __future__ import annotations

import pyarrow as pa
import pytest
from banks import IDENTITY, held, rows

from pipeline import schema
from pipeline.bank import create as create_module
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.info import info
from pipeline.bank.metadata import bank_schema
from pipeline.bank.problems import first_problems
from pipeline.export.export import export
from pipeline.schema import REFINE_STEPS


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A bank without the column, with one unit."""
    with monkeypatch.context() as patch:
        patch.setattr(create_module, "bank_schema", lambda fields: _without(bank_schema(fields)))
        bank = Bank.create(tmp_path / "bank", IDENTITY)
    assert REFINE_STEPS not in bank.schema.names
    add(bank, "u1", rows("u1", {"a": 2}))
    return bank


def _without(wanted: pa.Schema) -> pa.Schema:
    return wanted.remove(wanted.get_field_index(REFINE_STEPS))


def add(bank, unit_id, table):
    commit(bank, [Receipt(unit_id, tuple(bank.writer().write(unit_id, table)), chunks=table.num_rows)])


def refined(table, steps):
    place = table.schema.get_field_index(REFINE_STEPS)
    return table.set_column(place, table.schema.field(REFINE_STEPS), pa.array([steps] * table.num_rows, pa.int32()))


def steps(bank):
    return {taken for batch in bank.rows([REFINE_STEPS]) for taken in batch.column(0).to_pylist()}


def test_an_old_bank_takes_rows_that_are_not_refined(old):
    add(old, "u2", rows("u2", {"b": 1}))
    assert held(old) == {"a": 2, "b": 1} and first_problems(Bank.open(old.folder.uri)) == []


def test_an_old_bank_refuses_steps_rather_than_lose_them(old):
    with pytest.raises(ValueError, match=r"bring \['refine_steps'\]"):
        old.writer().write("u2", refined(rows("u2", {"b": 1}), 3))


def test_an_old_bank_is_described_and_exported(old, tmp_path):
    found = info(old)
    assert found.refined is None and found.unrefined.chunks == 2
    assert export(old, tmp_path / "out").rows == 2


def test_an_old_bank_gets_the_column_and_its_old_rows_have_null(old):
    version = old.version
    old.add_columns()
    add(old, "u2", refined(rows("u2", {"b": 1}), 3))
    again = Bank.open(old.folder.uri)
    assert steps(again) == {None, 3} and first_problems(again) == []
    assert (info(again).refined.steps, info(again).unrefined.chunks) == (3, 2)
    again.add_columns()
    assert again.version == version + 2  # the column and the unit: there was nothing to add again


def test_a_job_that_opened_the_bank_before_it_got_the_column_goes_on(old):
    before = Bank.open(old.folder.uri)
    old.add_columns()
    before.reload()
    add(before, "u2", rows("u2", {"b": 1}))
    assert held(old) == {"a": 2, "b": 1} and first_problems(Bank.open(old.folder.uri)) == []


def test_the_column_is_no_metadata_of_the_user_s(old):
    old.add_columns()
    assert old.metadata_fields == () and REFINE_STEPS in schema.RESERVED
