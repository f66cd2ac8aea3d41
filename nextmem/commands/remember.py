"""`nextmem remember`: a text, or a few files, into a bank at once, in this process."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobs.output import chunks, emit, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    import nextmem
    from pipeline.change.remember import Remembered

STDIN = "-"
FILES = "--"


@click.command()
@click.argument("bank")
@click.argument("texts", nargs=-1, metavar="TEXT | -- FILE...")
@click.option("--id", "doc_id", metavar="ID", help="The text's id. Default: its hash.")
@click.option("--column", "pairs", multiple=True, metavar="KEY=VALUE", help="Of the bank's own columns; repeatable.")
@click.option("--update", is_flag=True, help="Replace documents that are there with another text.")
@click.option("--text-column", default="text", show_default=True, help="Of tables and JSONL files.")
@click.option("--id-column", help="Of tables and JSONL files. Default: `id` where there is one.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
@click.pass_obj
def remember(given, bank, texts, doc_id, pairs, update, text_column, id_column, backbone, as_json):
    """Add TEXT to BANK (- reads it from stdin), or the documents of FILEs after a `--`; found by the next search.

    All in one commit. What BANK holds already is left as it is; an id that is there with another text is refused
    unless --update is given.
    """
    files = FILES in (given or ())
    if not (texts if files else len(texts) == 1):
        raise click.UsageError("give one TEXT in quotes, - for stdin, or -- and then files")
    if files and doc_id is not None:
        raise click.UsageError("--id names one TEXT; of files, --id-column says where ids stand")
    if update and not files and doc_id is None:
        raise click.UsageError("--update needs the --id of the document whose text is to be replaced")
    import nextmem

    with nextmem.open(bank, backbone=backbone) as opened:
        columns = _columns(opened, pairs)
        if files:
            done = opened.remember_files(texts, text_column=text_column, id_column=id_column, update=update, **columns)
        else:
            text = sys.stdin.read() if texts[0] == STDIN else texts[0]
            done = opened.update(doc_id, text, **columns) if update else opened.remember(text, doc_id=doc_id, **columns)
    if as_json:
        emit({"event": "remembered", **asdict(done)})
    else:
        table([("bank", f"{done.bank}, version {done.version}"), *_rows(done)])


def _columns(bank: nextmem.Bank, pairs: tuple[str, ...]) -> dict[str, Any]:
    from pipeline.change.given import Columns
    from pipeline.schema import metadata_of

    return Columns(metadata_of(bank.schema)).parsed(pairs)


def _rows(done: Remembered) -> list[tuple[str, str]]:
    rows = [("remembered", f"{done.new:,} new, {done.held:,} held already, {done.replaced:,} replaced")]
    if done.chunks:
        rows.append(("written", chunks(done.chunks)))
    if len(done.doc_ids) == 1:
        rows.append(("id", done.doc_ids[0]))
    return rows
