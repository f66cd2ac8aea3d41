"""`nextmem export`: plain Parquet of the live rows."""

from __future__ import annotations

from jobs.output import emit, table
from pipeline.bank.export import export
from pipeline.bank.opened import open_bank


def run_export(uri: str, out: str, *, as_json: bool) -> None:
    """Write the bank's rows to a new folder and say what was written."""
    exported = export(open_bank(uri), out)
    if as_json:
        emit({"out": out, "rows": exported.rows, "bytes": exported.bytes, "files": exported.files})
        return
    table([("out", out), ("rows", f"{exported.rows:,}"), ("files", f"{len(exported.files)}, {exported.bytes:,} bytes")])
