"""An export as a DuckDB file: SQL over the rows, with the embedding as an array that cosines can be taken of."""

from __future__ import annotations

import pyarrow as pa

from pipeline.export.rows import Rows
from pipeline.storage.folder import Folder

NEEDS = "duckdb"
STREAMS_TO_STORES = False
ALWAYS = ()
FILE, TABLE = "bank.duckdb", "chunks"
MEMORY = "1GB"  # beyond it DuckDB writes to disk
OPENING = """
    bank = duckdb.connect("bank.duckdb", read_only=True)
    near = "array_cosine_similarity(embedding, ?::FLOAT[E])"     E: the embedding's width
    bank.execute(f"SELECT chunk_id, doc_id, {near} AS score FROM chunks ORDER BY score DESC LIMIT 5", [query])"""


def write(rows: Rows, folder: Folder) -> list[str]:
    """`bank.duckdb` with the table `chunks`. DuckDB takes the rows as they stream."""
    import duckdb

    settings = {"memory_limit": MEMORY, "temp_directory": f"{folder.uri}/spilled", "threads": 1}
    with duckdb.connect(f"{folder.uri}/{FILE}", config=settings) as sql:
        sql.register("streaming", pa.RecordBatchReader.from_batches(rows.schema, rows.batches()))
        sql.execute(f"CREATE TABLE {TABLE} AS SELECT * FROM streaming")
        sql.unregister("streaming")
    return [FILE]
