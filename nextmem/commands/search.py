"""`nextmem search`: the rows nearest to a query, with their text when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nextmem.commands.options import as_json_option, where_option

if TYPE_CHECKING:
    import nextmem


@click.command()
@click.argument("bank")
@click.argument("query")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1))
@where_option
@click.option("--recall", "with_text", is_flag=True, help="Print each row's text too.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def search(bank, query, k, where, with_text, backbone, as_json):
    """Rows of BANK nearest to QUERY by cosine."""
    import nextmem

    with nextmem.open(bank, backbone=backbone) as opened:
        for hit in opened.search(query, k, filter=where):
            _print(hit, with_text=with_text, as_json=as_json)


def _print(hit: nextmem.Hit, *, with_text: bool, as_json: bool) -> None:
    from jobs.output import emit, share

    text = hit.text if with_text else None  # raises where it is not exact
    if as_json:
        row = hit.recalled if with_text else None
        emit(hit.as_dict() | ({"text": text, "exact": row.exact, "carried": row.carried} if row else {}))
        return
    print(f"{hit.score:+.4f}  {hit.chunk_id}  {hit.doc_id} [{hit.char_start}:{hit.char_end}]")
    if text is not None:
        print(f"         latents carry {share(hit.recalled.carried)}\n{_indented(text)}\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())
