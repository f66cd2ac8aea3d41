"""`nextmem forget`: take documents out for good, or bring them back while that is possible."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import chunks, emit, table
from nextmem.commands.options import as_json_option, where_option

if TYPE_CHECKING:
    from pipeline.bank.forget import Forgot


@click.command()
@click.argument("bank")
@click.option("--doc", "doc_ids", multiple=True, metavar="ID", help="A document; may be repeated.")
@where_option
@click.option("--undo", is_flag=True, help="Bring back the --doc given, or what the last forget took out.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@as_json_option
def forget(bank, doc_ids, where, undo, dry_run, as_json):
    """Take documents out of BANK in one commit, so that no encode brings them back: those given, or each with a chunk
    for which --where holds.

    The bytes stay in older versions for --undo, until `nextmem tend` removes them after a week, or `nextmem tend
    --now` at once.
    """
    import nextmem

    if undo and where:
        raise click.UsageError("--undo takes --doc, or nothing for the last forget: --where finds no row that is gone")
    if not undo and bool(doc_ids) == bool(where):
        raise click.UsageError("give --doc or --where: which documents to forget")
    with nextmem.open(bank) as opened:
        done = opened.forget(doc_ids or None, filter=where, undo=undo, dry_run=dry_run)
    if as_json:
        emit({"event": "brought back" if undo else "forgotten", **asdict(done)})
    else:
        table([("bank", done.bank), *_rows(done, undo=undo)])


def _rows(done: Forgot, *, undo: bool) -> list[tuple[str, str]]:
    verb, will = "brought back" if undo else "forgotten", "would be " if done.dry_run else ""
    count = f"{done.documents:,} document{'s' * (done.documents != 1)} of {chunks(done.chunks)}"
    rows = [(verb, f"{count} {will}{verb}" if done.documents else f"nothing {will}{verb}")]
    if done.ids:
        more = ", ..." if done.documents > len(done.ids) else ""
        rows.append(("documents", ", ".join(done.ids) + more))
    if done.already:
        rows.append(("already", f"{done.already:,} of those asked for were forgotten before"))
    return [*rows, ("version", f"{done.version}")]
