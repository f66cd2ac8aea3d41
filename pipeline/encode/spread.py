"""Some rows of a table, taken evenly from its beginning to its end."""

from __future__ import annotations

import pyarrow as pa


def spread(table: pa.Table, count: int) -> pa.Table:
    """At most `count` rows: the first ones alone could be one document's, and all short."""
    count = min(count, table.num_rows)
    return table.take(pa.array([i * table.num_rows // count for i in range(count)], pa.int64()))
