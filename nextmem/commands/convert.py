"""`nextmem convert`: a bank's rows in a new bank, with the embeddings of another codec's head, or at a lower rate."""

from __future__ import annotations

from dataclasses import asdict

import click

from nextmem.commands.options import as_json_option, rate_options


@click.command()
@click.argument("bank")
@click.argument("out")
@click.option(
    "--codec", type=click.Path(), help="A codec folder that makes the same latents: its head embeds the rows."
)
@rate_options
@click.option("--rank", type=int, metavar="R", help="Store each latent along its R leading directions, learned here.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def convert(bank, out, codec, latents, bits, rank, backbone, as_json):
    """Write the rows of BANK to the new bank OUT: embedded anew (--codec), or smaller (--latents, --bits, --rank).

    With --codec nothing is decoded or encoded. With the other three each row is recalled and verified again, so
    recall stays exact; the same command goes on after a kill.
    """
    if (codec is None) == (latents is None and bits is None and rank is None):
        raise click.UsageError(
            "give --codec, which embeds the rows anew, or --latents, --bits, --rank for smaller rows"
        )
    import nextmem
    from jobs.output import chunks, emit, table
    from nextmem.commands.progress import CountBar

    with CountBar("embedding" if codec else "verifying", hidden=as_json) as bar:
        made = nextmem.convert(
            bank, out, codec=codec, latents=latents, bits=bits, rank=rank, backbone=backbone, on_progress=bar
        )
    if as_json:
        emit({"event": "converted", **asdict(made)})
        return
    embedded = ("embedded", f"{chunks(made.rows)}, {made.embedding_width} values each")
    table(
        [
            ("bank", made.bank),
            embedded if codec else ("verified", chunks(made.rows)),
            ("latents", f"{made.num_latents} a chunk, {made.quantiser}"),
            ("codec", made.codec),
        ]
    )
