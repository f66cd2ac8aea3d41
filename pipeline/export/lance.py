"""An export as a LanceDB table: found by vector, and by words where the text is among its parts."""

from __future__ import annotations

import pyarrow as pa

from pipeline.export.rows import Rows
from pipeline.schema import EMBEDDING, TEXT
from pipeline.storage.folder import Folder

NEEDS = "lancedb"
STREAMS_TO_STORES = False
ALWAYS = ("embedding",)
TABLE = "chunks"
ROWS_A_PARTITION = 4096  # LanceDB looks into 20 partitions unless told otherwise: up to 80,000 rows it looks at all
OPENING = """
    chunks = lancedb.connect("THIS FOLDER").open_table("chunks")
    chunks.search(query, vector_column_name="embedding").distance_type("cosine").limit(5).to_arrow()
    chunks.search("dough rises", query_type="fts").limit(5).to_arrow()      where the text was exported

The index holds the vectors as they are, in partitions. `.nprobes(N)` says how many of them are looked into."""


def write(rows: Rows, folder: Folder) -> list[str]:
    """The table `chunks`, with an index over the embeddings, and one over the words of the text if that was asked for.

    LanceDB takes the rows as they stream.
    """
    import lancedb
    from lancedb.index import FTS, IvfFlat

    table = lancedb.connect(folder.uri).create_table(
        TABLE, pa.RecordBatchReader.from_batches(rows.schema, rows.batches())
    )
    if rows.count:
        partitions = -(-rows.count // ROWS_A_PARTITION)
        table.create_index(EMBEDDING, config=IvfFlat(distance_type="cosine", num_partitions=partitions))
        if "text" in rows.parts:
            table.create_index(TEXT, config=FTS())
    return folder.names(f"{TABLE}.lance", recursive=True)
