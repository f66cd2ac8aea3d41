"""An export as plain Parquet: files of at most 128 MB, for whatever reads Parquet."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bank.unit_file import parquet_files
from pipeline.export.rows import Rows
from pipeline.storage.folder import Folder

NEEDS = None
STREAMS_TO_STORES = True
ALWAYS = ()
DATA = "data"  # nothing but the rows: Polars opens no folder that holds a file of another kind
OPENING = """
The folder `data/` beside this one holds nothing but the rows, so anything that reads Parquet opens it as a folder, or
as `data/*.parquet`:

    pandas.read_parquet("data")        polars.read_parquet("data")        pyarrow.dataset.dataset("data")
    datasets.load_dataset("parquet", data_dir="data", split="train")      duckdb.sql("from 'data/*.parquet'")

All but Polars open the folder around it as well."""


def write(rows: Rows, folder: Folder) -> list[str]:
    """`data/part-*.parquet`, one file in memory at a time; their names."""
    return write_parquet(rows.schema, rows.batches(), folder)


def write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], folder: Folder) -> list[str]:
    names = []
    for number, content in enumerate(parquet_files(schema, batches)):
        names.append(f"{DATA}/part-{number:05d}.parquet")
        folder.put(names[-1], content)
    if not names:
        names = [f"{DATA}/part-00000.parquet"]  # columns without rows open everywhere; no file at all is an error
        pq.ParquetWriter(empty := pa.BufferOutputStream(), schema).close()  # `datasets` reads no row group of no rows
        folder.put(names[0], empty.getvalue())
    return names
