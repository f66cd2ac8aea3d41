"""`nextmem recall`: exact text to stdout, or an error that names the row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import chunks, emit, share
from nextmem.commands.options import as_json_option, where_option

if TYPE_CHECKING:
    from pipeline.bank.recall import Recalled


@click.command()
@click.argument("bank")
@click.option("--id", "chunk", metavar="CHUNK", help="One chunk by its id.")
@click.option("--doc", metavar="DOC", help="All chunks of a document.")
@click.option("--all", "everything", is_flag=True, help="All documents.")
@where_option
@click.option("--no-patch", is_flag=True, help="What the latents alone give, exact or not.")
@click.option("--latents", type=click.IntRange(min=1), metavar="K", help="With --no-patch: what the first K give.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Chunks decoded at once.")
@as_json_option
def recall(bank, chunk, doc, everything, where, no_patch, latents, backbone, batch_size, as_json):
    """Exact text to stdout, or an error that names the row.

    Texts follow one another just as they stood, documents parted by a line feed. A row that is not exact is never
    printed as if it were.
    """
    if sum([chunk is not None, doc is not None, everything, where is not None]) != 1:
        raise click.UsageError("give one of --id CHUNK, --doc DOC, --where EXPR, --all")
    if latents is not None and not no_patch:
        raise click.UsageError("--latents needs --no-patch: a patch says what all the latents of a row lack")
    import nextmem
    from nextmem.commands.progress import CountBar

    hidden = as_json or sys.stdout.isatty()  # on a terminal the texts themselves are seen to come
    with (
        nextmem.open(bank, backbone=backbone) as opened,
        CountBar("recalling", hidden=hidden, leave=False) as bar,
    ):
        rows = opened.recalled(
            chunk_ids=None if chunk is None else [chunk],
            doc_id=doc,
            filter=where,
            patched=not no_patch,
            k=latents,
            batch_size=batch_size,
            on_progress=bar,
        )
        exact = _print(rows, patched=not no_patch, as_json=as_json)
    if not exact:
        raise click.exceptions.Exit(1)


def _print(rows: Iterator[Recalled], *, patched: bool, as_json: bool) -> bool:
    """Whether every row was as asked for."""
    from pipeline.bank.recall import InexactRecall

    wrong, count, carried, last_doc = 0, 0, 0.0, None
    for row in rows:
        count, carried = count + 1, carried + (row.carried or 0.0)
        if patched and not row.exact:
            wrong += 1
            print(f"nextmem: {InexactRecall(row)}", file=sys.stderr)
        if as_json:
            emit(asdict(row))
        elif row.exact or not patched:
            sys.stdout.write(("\n" if last_doc not in (None, row.doc_id) else "") + row.text)
            sys.stdout.flush()  # each row as it comes, also into a pipe
            last_doc = row.doc_id
    if not as_json:
        note = _note(count, carried / count, patched) if count else "no row of the bank is such"
        print(note, file=sys.stderr)
    return wrong == 0


def _note(count: int, carried: float, patched: bool) -> str:
    if not patched:
        return f"\n{chunks(count)} as latents alone give the text; patches and raw ids correct {share(1 - carried)}."
    return f"\n{chunks(count)}; latents carry {share(carried)} of the positions, patches and raw ids the rest."
