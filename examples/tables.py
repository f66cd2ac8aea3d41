"""Read a bank with DuckDB and Polars: an export is plain Parquet, and the bank itself is a Delta table.

python examples/tables.py bank export
"""

from __future__ import annotations

import sys

import duckdb
import polars as pl

import nextmem


def main(folder: str, out: str) -> tuple[int, int]:
    """Print chunks a document by both. Returns how many rows each of them saw."""
    with nextmem.open(folder) as bank:
        bank.export(out)
    files = f"{out}/data/*.parquet"
    count = "select doc_id, count(*) as chunks, avg(fidelity) as fidelity from read_parquet(?) group by all order by 1"
    print(duckdb.execute(count, [files]).fetchdf())
    rows = pl.read_delta(folder).select("doc_id", "position", "num_tokens")
    print(rows.group_by("doc_id").agg(pl.len().alias("chunks"), pl.sum("num_tokens")).sort("doc_id"))
    return duckdb.execute("select count(*) from read_parquet(?)", [files]).fetchone()[0], len(rows)


if __name__ == "__main__":
    main(*sys.argv[1:3])
