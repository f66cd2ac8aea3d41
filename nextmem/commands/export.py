"""`nextmem export`: plain Parquet of the live rows."""

from __future__ import annotations

import click

from nextmem.commands.options import as_json_option


@click.command()
@click.argument("bank")
@click.argument("out")
@as_json_option
def export(bank, out, as_json):
    """Write plain Parquet of the live rows to the new folder OUT."""
    import nextmem
    from jobs.output import emit, table

    with nextmem.open(bank) as opened:
        made = opened.export(out)
    if as_json:
        emit({"out": out, "rows": made.rows, "bytes": made.bytes, "files": made.files})
        return
    table([("out", out), ("rows", f"{made.rows:,}"), ("files", f"{len(made.files)}, {made.bytes:,} bytes")])
