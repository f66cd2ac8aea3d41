"""Rows for a spot check and a trial come from the whole of a table."""

from __future__ import annotations

import pyarrow as pa

from pipeline.encode.spread import spread


def test_rows_are_taken_evenly_from_beginning_to_end():
    table = pa.table({"n": range(10)})
    assert spread(table, 4)["n"].to_pylist() == [0, 2, 5, 7]


def test_a_short_table_is_taken_whole_and_an_empty_one_stays_empty():
    assert spread(pa.table({"n": [1, 2]}), 9)["n"].to_pylist() == [1, 2]
    assert spread(pa.table({"n": pa.array([], pa.int64())}), 9).num_rows == 0
