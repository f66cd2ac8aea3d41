"""A sample of rows goes through real recall before anything is called exact."""

from __future__ import annotations

import pyarrow as pa
import pytest
from works import ARTICLES, Works, jsonl

from pipeline import schema
from pipeline.encode.spot_check import SpotCheck


@pytest.fixture
def works(tmp_path, tiny_codec_folder):
    return Works(tmp_path, tiny_codec_folder, jsonl(tmp_path / "c.jsonl", ARTICLES), spot_check_rows=4, unit_chunks=2)


def recalled(codec, count: int, rows: pa.Table) -> dict[str, float]:
    spot_check = SpotCheck(codec, count)
    spot_check.look(rows)
    return spot_check.take_numbers()


def test_an_encoder_recalls_rows_of_its_first_unit_only(works):
    first, second = (works.encode(unit).numbers for unit in works.units[:2])
    assert 0 < first["recalled"] == first["recalled_exactly"] <= 4
    assert "recalled" not in second


def test_a_row_that_does_not_recall_is_counted(codec, works):
    unit = works.read()
    rows = works.encoder.memoriser.memorise(unit.chunks, unit.unit_id)
    place = rows.schema.get_field_index(schema.CHUNK_ID)
    wrong = rows.set_column(place, rows.schema.field(place), pa.array(["0" * 32] * rows.num_rows))
    place = rows.schema.get_field_index(schema.TEXT_HASH)
    wrong = wrong.set_column(place, rows.schema.field(place), pa.array(["0" * 32] * rows.num_rows))
    count = min(3, rows.num_rows)
    assert recalled(codec, 3, rows) == {"recalled": count, "recalled_exactly": count}
    assert recalled(codec, 3, wrong) == {"recalled": count, "recalled_exactly": 0}


def test_none_are_recalled_where_none_are_asked_for_or_none_have_a_patch(codec, works):
    unit = works.read()
    rows = works.encoder.memoriser.memorise(unit.chunks, unit.unit_id)
    place = rows.schema.get_field_index(schema.PATCH)
    unverified = rows.set_column(place, rows.schema.field(place), pa.nulls(rows.num_rows, pa.binary()))
    assert recalled(codec, 0, rows) == recalled(codec, 3, unverified) == {}
