"""`nextmem dedupe`: copies in a bank, first told, then taken out when asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import emit, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from pipeline.bank.duplicates import Duplicates


@click.command()
@click.argument("bank")
@click.option(
    "--threshold", type=float, default=0.98, show_default=True, help="Cosine from which two chunks are alike."
)
@click.option("--apply", is_flag=True, help="Forget the documents that are found.")
@as_json_option
def dedupe(bank, threshold, apply, as_json):
    """Find documents of BANK that another one covers, chunk by chunk, by their embeddings. Changes nothing by itself.

    Of two the longer one would be kept, else the one encoded first. Chunks with the very same text are counted.
    --apply forgets what is found; `nextmem forget --undo` brings it back.
    """
    import nextmem
    from nextmem.commands.progress import CountBar

    with nextmem.open(bank) as opened, CountBar("comparing", hidden=as_json) as bar:
        found = opened.dedupe(threshold, apply=apply, on_progress=bar)
    if as_json:
        _emit(found, apply=apply)
        return
    for each in found.found:
        print(f"{each.cosine:.4f}  {each.doc_id}  is in  {each.kept}")
    table(_rows(found, apply=apply))


def _emit(found: Duplicates, *, apply: bool) -> None:
    counts = {"chunks": found.chunks, "exact": found.exact, "documents": found.documents, "found": len(found.found)}
    emit({"event": "counts", "bank": found.bank, "version": found.version, **counts, "applied": apply})
    for each in found.found:
        emit(asdict(each))


def _rows(found: Duplicates, *, apply: bool) -> list[tuple[str, str]]:
    done = "forgotten" if apply else "could go: --apply forgets them"
    return [
        ("bank", f"{found.bank}, version {found.version}"),
        ("chunks", f"{found.exact:,} of {found.chunks:,} have the text of another"),
        ("documents", f"{len(found.found):,} of {found.documents:,} are covered by another, and {done}"),
    ]
