"""`nextmem merge`: other banks' rows into a bank."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import emit, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from pipeline.bank.merge import Merged


@click.command()
@click.argument("bank")
@click.argument("others", metavar="OTHER...", nargs=-1, required=True)
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "skip", "newest"]),
    default="refuse",
    show_default=True,
    help="Of a document with two texts: name it, keep the first bank's, or keep the one encoded last.",
)
@as_json_option
def merge(bank, others, on_conflict, as_json):
    """Bring the rows of each OTHER bank into BANK, as they are, in one commit. OTHER stays as it is.

    All must be one codec's. The same command again brings what is missing. Encoding the corpora of either again then
    encodes nothing, but for documents that lost a conflict.
    """
    import nextmem

    with nextmem.open(bank) as opened:
        done = opened.merge(*others, on_conflict=on_conflict)
    if as_json:
        emit(asdict(done))
    else:
        table(_rows(done))


def _rows(done: Merged) -> list[tuple[str, str]]:
    rows = [
        ("bank", f"{done.bank}, version {done.version}"),
        ("documents", f"{done.brought:,} brought, {done.same:,} held already"),
        ("chunks", f"{done.chunks:,}, {done.chunks_before:,} before"),
    ]
    if done.conflicts:
        kept = done.conflicts - done.replaced
        rows.append(("conflicts", f"{done.conflicts:,}: {kept:,} kept as they were, {done.replaced:,} replaced"))
    return rows
