"""`nextmem convert`: a bank's rows in a new bank, with the embeddings of another codec's head."""

from __future__ import annotations

from dataclasses import asdict

import click

from nextmem.commands.options import as_json_option


@click.command()
@click.argument("bank")
@click.argument("out")
@click.option("--codec", required=True, type=click.Path(), help="A codec folder that makes the same latents.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def convert(bank, out, codec, backbone, as_json):
    """Write the rows of BANK to the new bank OUT, embedded anew from their latents. Nothing is decoded or encoded."""
    import nextmem
    from jobs.output import chunks, emit, table
    from nextmem.commands.progress import CountBar

    with CountBar("embedding", hidden=as_json) as bar:
        made = nextmem.convert(bank, out, codec=codec, backbone=backbone, on_progress=bar)
    if as_json:
        emit({"event": "converted", **asdict(made)})
        return
    table(
        [
            ("bank", made.bank),
            ("embedded", f"{chunks(made.rows)}, {made.embedding_width} values each"),
            ("codec", made.codec),
        ]
    )
