"""`nextmem export`: a bank's rows for other tools."""

from __future__ import annotations

import click

from nextmem.commands.options import as_json_option, where_option

TARGETS = (
    "parquet",
    "hf",
    "lance",
    "faiss",
    "duckdb",
)  # pipeline/export/export.py; a test holds that they are the same
PARTS = ("text", "latents", "codes", "embedding")


@click.command()
@click.argument("bank")
@click.argument("out")
@click.option(
    "--to", type=click.Choice(TARGETS), default="parquet", show_default=True, help="What is to open it: docs/export.md."
)
@click.option(
    "--with",
    "parts",
    metavar="PART,...",
    callback=lambda _, __, given: None if given is None else _parts(given),
    help=f"What comes beside ids and metadata: {', '.join(PARTS)}. Default: rows as the bank holds them.",
)
@where_option
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def export(bank, out, to, parts, where, backbone, as_json):
    """Write rows of BANK to the new folder OUT, for other tools to open. All of it or nothing.

    text is recalled exactly, or the command ends and names the row that is not. latents are dequantised, float32; codes
    are a seventh of their size, and NextMem reads them.
    """
    import nextmem
    from jobs.output import emit, table
    from nextmem.commands.progress import CountBar

    with nextmem.open(bank, backbone=backbone) as opened, CountBar("exporting", hidden=as_json, leave=False) as bar:
        made = opened.export(out, to=to, with_=parts, filter=where, on_progress=bar)
    if as_json:
        emit({"out": out, "to": to, "rows": made.rows, "bytes": made.bytes, "files": made.files})
        return
    table([("out", out), ("rows", f"{made.rows:,}"), ("files", f"{len(made.files)}, {made.bytes:,} bytes")])


def _parts(given: str) -> list[str]:
    parts = [part.strip() for part in given.split(",")]
    unknown = next((part for part in parts if part not in PARTS), None)
    if unknown is not None:
        raise click.BadParameter(f"{unknown!r} is none of {', '.join(PARTS)}")
    return parts
