"""`nextmem search`: the rows nearest to a query, with their text when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nextmem.commands.options import as_json_option, say, where_option

if TYPE_CHECKING:
    import nextmem


@click.command()
@click.argument("bank")
@click.argument("query")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--by",
    type=click.Choice(["latents", "words", "both"]),
    default="latents",
    show_default=True,
    help="Cosine of embeddings; BM25 of words that the bank keeps; or both, added up.",
)
@click.option(
    "--weight", type=click.FloatRange(0, 1), help="Of the latents, with --by both. Default: what the codec says."
)
@where_option
@click.option("--explain", is_flag=True, help="Say for each row what latents and words gave.")
@click.option("--recall", "with_text", is_flag=True, help="Print each row's text too.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def search(bank, query, k, by, weight, where, explain, with_text, backbone, as_json):
    """Rows of BANK that answer QUERY best: by cosine of embeddings, by words, or by both."""
    import nextmem

    if weight is not None and by != "both":
        raise click.UsageError("--weight is for --by both: latents or words alone have none to share")
    with nextmem.open(bank, backbone=backbone) as opened:
        for hit in opened.search(query, k, by=by, weight=weight, filter=where, say=say):
            _print(hit, explain=explain, with_text=with_text, as_json=as_json)


def _print(hit: nextmem.Hit, *, explain: bool, with_text: bool, as_json: bool) -> None:
    from jobs.output import emit, share

    text = hit.text if with_text else None  # raises where it is not exact
    if as_json:
        row = hit.recalled if with_text else None
        told = {"explained": hit.explained()} if explain else {}
        emit(hit.as_dict() | told | ({"text": text, "exact": row.exact, "carried": row.carried} if row else {}))
        return
    print(f"{hit.score:+.4f}  {hit.chunk_id}  {hit.doc_id} [{hit.char_start}:{hit.char_end}]")
    if explain:
        print(f"         {_explained(hit)}")
    if text is not None:
        print(f"         latents carry {share(hit.recalled.carried)}\n{_indented(text)}\n")


def _explained(hit: nextmem.Hit) -> str:
    """`latents: place 3, cosine +0.2314, give 0.08; words: place 1, BM25 7.31 (dough 4.10, rise 3.21), give 0.90`"""
    sides = []
    if rank := hit.by_latents:
        sides.append(f"latents: place {rank.place}, cosine {rank.score:+.4f}{_given(rank)}")
    if rank := hit.by_words:
        parts = ", ".join(f"{word} {score:.2f}" for word, score in rank.parts.items())
        sides.append(f"words: place {rank.place}, BM25 {rank.score:.2f} ({parts}){_given(rank)}")
    return "; ".join(sides)


def _given(rank) -> str:
    return "" if rank.given is None else f", give {rank.given:.2f}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())
