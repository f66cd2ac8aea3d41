"""Ids of every type that has an exact text find their document again; others are refused by name."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.corpus import Corpus, Span
from pipeline.corpus.documents import ColumnRoles, Document, Rejected
from pipeline.corpus.ids import id_text
from pipeline.corpus.lines import PEEK_LINES
from pipeline.corpus.metadata import settled
from pipeline.corpus.readers import read_span
from pipeline.plan.plan import plan_corpus

DAY = datetime.datetime(2024, 1, 2, 3, 4, 5)
KINDS = [
    (pa.array([uuid.UUID(int=7).bytes], pa.uuid()), "00000000-0000-0000-0000-000000000007"),
    (pa.array([Decimal(5)], pa.decimal128(18, 0)), "5"),
    (pa.array([Decimal("5.00")], pa.decimal128(18, 2)), "5"),
    (pa.array([Decimal("-12.50")], pa.decimal256(50, 2)), "-12.5"),
    (pa.array([DAY], pa.timestamp("us")), "2024-01-02T03:04:05"),
    (pa.array([DAY], pa.timestamp("s")), "2024-01-02T03:04:05"),
    (pa.array([1], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
    (pa.array([DAY], pa.timestamp("ms", "Asia/Tokyo")), "2024-01-02T03:04:05Z"),
    (pa.array([DAY.date()], pa.date32()), "2024-01-02"),
    (pa.array([DAY.date()], pa.date64()), "2024-01-02"),
    (pa.array([datetime.time(1, 2, 3, 500000)]), "01:02:03.5"),
    (pa.array([b"k-\xff"], pa.binary()), "6b2dff"),
    (pa.array([b"k-0"], pa.binary(3)), "6b2d30"),
    (pa.array([b"k-0"], pa.large_binary()), "6b2d30"),
    (pa.array([101.0], pa.float64()), "101"),
    (pa.array([101.0], pa.float32()), "101"),
    (pa.array([2**64 - 1], pa.uint64()), str(2**64 - 1)),
    (pa.array([101.0]).dictionary_encode(), "101"),
]
NO_TEXT = [
    pa.array([True]),
    pa.array([["a"]]),
    pa.array([{"a": 1}]),
    pa.array([1], pa.duration("s")),
]


def records(path, columns=None):
    corpus = Corpus((str(path),))
    columns = settled(corpus, columns or ColumnRoles())
    return [located.item for file in corpus for located in read_span(Span(file), columns)]


def table(path, ids, texts=None):
    pq.write_table(pa.table({"id": ids, "text": texts or [f"text {i}" for i in range(len(ids))]}), path)
    return path


def lines(path, *values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.mark.parametrize(("ids", "text"), KINDS, ids=lambda value: str(getattr(value, "type", "")))
def test_an_id_of_any_type_with_an_exact_text_is_taken(tmp_path, ids, text):
    for options in (ColumnRoles(), ColumnRoles(id="id")):
        (found,) = records(table(tmp_path / "a.parquet", ids), options)
        assert isinstance(found, Document) and found.doc_id == text


@pytest.mark.parametrize(("ids", "text"), KINDS[:4], ids=lambda value: str(getattr(value, "type", "")))
def test_a_corrected_document_replaces_its_old_text_whatever_its_id_is(tmp_path, ids, text):
    path, options = tmp_path / "a.parquet", {"unit_chunks": 9, "folder": str(tmp_path / "plans")}
    table(path, ids, ["old text"])
    (old,) = records(path)
    table(path, ids, ["new text"])
    work = plan_corpus([str(path)], ColumnRoles(), **options).against([(old.doc_id, old.doc_hash)])
    assert [unit.replaces for unit in work.units()] == [(text,)]


@pytest.mark.parametrize("ids", NO_TEXT, ids=lambda ids: str(ids.type))
def test_an_id_column_without_an_exact_text_is_refused_by_file_column_and_type(tmp_path, ids):
    path = table(tmp_path / "odd.parquet", ids)
    with pytest.raises(
        ValueError, match=r"odd.parquet: column 'id' is .*, which has no exact text.*--id-column ''"
    ) as no:
        records(path)
    assert str(ids.type).partition("<")[0] in str(no.value) and "\n" not in str(no.value)

    assert isinstance(records(path, ColumnRoles(id=""))[0], Document)  # made ids are meant


def test_a_float_column_with_a_gap_rejects_the_gap_alone(tmp_path):
    found = records(table(tmp_path / "a.parquet", pa.array([None, 101.0, 102.0, float("nan")])))
    assert [item.doc_id for item in found] == [None, "101", "102", None]
    assert {item.reason for item in found if isinstance(item, Rejected)} == {"id is null or missing"}


def test_a_float_too_large_to_be_exact_rejects_its_record(tmp_path):
    ids = pa.array([2.0**24, 2.0**24 + 2], pa.float32())
    assert [item.doc_id for item in records(table(tmp_path / "a.parquet", ids))] == [str(2**24), None]
    assert [id_text(value) for value in (2.0**53, 2.0**54, float("inf"), Decimal("NaN"))] == [str(2**53), *[None] * 3]


@pytest.mark.parametrize("first", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": 1.5}])
@pytest.mark.parametrize("before", [1, PEEK_LINES - 1])
def test_records_without_an_id_are_rejected_alone(tmp_path, first, before):
    path = lines(tmp_path / "a.jsonl", *[{**first, "text": "t"}] * before, {"id": "h-1", "text": "u"})
    found = records(path)
    assert [item.doc_id for item in found] == [None] * before + ["h-1"]
    assert all(isinstance(item, Rejected) for item in found[:before])


def test_ids_that_begin_further_down_are_never_replaced_in_silence(tmp_path):
    path = lines(tmp_path / "a.jsonl", *[{"text": f"t {i}"} for i in range(PEEK_LINES)], {"id": "h-1", "text": "u"})
    *made, last = records(path)
    assert all(item.doc_id == item.doc_hash for item in made)
    assert (last.doc_id, last.source) == ("h-1", f"a.jsonl:{PEEK_LINES + 1}") and "--id-column id if all" in last.reason
    assert records(path, ColumnRoles(id="id"))[-1].doc_id == "h-1"


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"a": 1}])
def test_lines_whose_ids_are_all_of_no_use_are_refused_by_name(tmp_path, value):
    path = lines(tmp_path / "a.jsonl", {"id": value, "text": "t"}, {"id": None, "text": "u"})
    with pytest.raises(
        ValueError, match=r"^a.jsonl: id is .*Name another column by --id-column, or say --id-column ''"
    ):
        records(path)
    assert all(isinstance(item, Document) for item in records(path, ColumnRoles(id="")))


def test_a_whole_float_in_lines_is_the_id_that_an_integer_is(tmp_path):
    found = records(lines(tmp_path / "a.jsonl", {"id": 101.0, "text": "t"}, {"id": 102, "text": "u"}))
    assert [item.doc_id for item in found] == ["101", "102"]


def test_an_id_column_that_is_there_twice_is_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array(["t"]), pa.array(["a"]), pa.array(["b"])], ["text", "id", "id"]),
                   tmp_path / "a.parquet")  # fmt: skip
    with pytest.raises(ValueError, match=r"a.parquet: column 'id' stands there 2 times"):
        records(tmp_path / "a.parquet")


def test_an_id_column_of_nulls_is_none(tmp_path):
    (found,) = records(table(tmp_path / "a.parquet", pa.array([None], pa.null())))
    assert found.doc_id == found.doc_hash
