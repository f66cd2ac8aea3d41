"""`nextmem index`: build an index of a bank's embeddings."""

from __future__ import annotations

from dataclasses import asdict

import click

from nextmem.commands.options import as_json_option


@click.command()
@click.argument("bank")
@click.option(
    "--recall",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the ten nearest that a search is to find.",
)
@as_json_option
def index(bank, recall, as_json):
    """Build an index of BANK's embeddings, so that a search by latents reads a few rows of many.

    It fits the rows as they are: when they have changed, searches say so and read every row until it is built anew.
    """
    import nextmem
    from jobs.output import chunks, emit, share, table
    from nextmem.commands.progress import CountBar

    with nextmem.open(bank) as opened, CountBar("indexing", hidden=as_json) as bar:
        made = opened.index(recall=recall, on_progress=bar)
    if as_json:
        emit({"event": "indexed", **asdict(made)})
        return
    table(
        [
            ("bank", f"{made.bank}, version {made.version}"),
            ("indexed", f"{chunks(made.rows)} in {made.lists:,} lists, {made.bytes:,} bytes"),
            ("a search", f"reads {made.probes:,} lists"),
            (
                "recall@10",
                f"{share(made.recall)} of what reading every row finds, over {made.asked:,} mixed rows",
            ),
        ]
    )
