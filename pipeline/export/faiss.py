"""An export as a FAISS index, with the rows that its ids stand for as Parquet.

Shapes: N rows, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipeline.export.parquet import write_parquet
from pipeline.export.rows import Rows, with_column
from pipeline.schema import EMBEDDING, FAISS_ID
from pipeline.storage.folder import Folder

NEEDS = "faiss"
STREAMS_TO_STORES = False
ALWAYS = ("embedding",)
INDEX = "index.faiss"
OPENING = """
    index = faiss.read_index("index.faiss")                      rows = pandas.read_parquet("data")
    scores, ids = index.search(query[None], k=5)                 float32 [1, E] of length 1; a score is a cosine
    rows.set_index("faiss_id").loc[ids[0], ["chunk_id", "doc_id"]]

The index is flat: its answers are exact, and it is as large in memory as it is on disk."""


def write(rows: Rows, folder: Folder) -> list[str]:
    """`index.faiss`, an inner product over all embeddings, and `data/part-*.parquet`, whose `faiss_id` it answers with.

    FAISS builds an index in memory: 4 E bytes a chunk. Everything else streams.
    """
    import faiss

    index = faiss.IndexFlatIP(rows.bank.identity.embedding_width)
    at = rows.schema.get_field_index(EMBEDDING)
    schema = with_column(rows.schema.remove(at), pa.field(FAISS_ID, pa.int64(), nullable=False))
    names = write_parquet(schema, _indexed(rows, index, at, schema), folder)
    faiss.write_index(index, f"{folder.uri}/{INDEX}")
    return [INDEX, *names]


def _indexed(rows: Rows, index, at: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows without their embeddings, which go into the index; each with its id there."""
    for batch in rows.batches():
        ids = np.arange(index.ntotal, index.ntotal + batch.num_rows)
        vectors_NE = batch.column(at).flatten().to_numpy().reshape(batch.num_rows, -1)
        index.add(np.ascontiguousarray(vectors_NE, np.float32))
        columns = [column for place, column in enumerate(batch.columns) if place != at]
        yield pa.RecordBatch.from_arrays([*columns, pa.array(ids)], schema=schema)
