"""`nextmem evaluate`: its arguments."""

from __future__ import annotations

import click

from nextmem.commands.options import as_json_option


@click.command()
@click.argument("codec", required=False)
@click.option("--data", multiple=True, required=True, metavar="PASSAGES", help="Files, folders or globs, a set each.")
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--passages", default=200, show_default=True, type=click.IntRange(min=1), help="Of each set, at most.")
@click.option(
    "--min-tokens", default=32, show_default=True, type=click.IntRange(min=1), help="Shorter ones are left out."
)
@click.option("--out", metavar="FILE", help="Write all figures to this JSON file.")
@as_json_option
def evaluate(codec, data, backbone, text_column, passages, min_tokens, out, as_json):
    """What CODEC's latents alone give back of PASSAGES: F1, chunks that come back whole, fidelity, patch bytes.

    CODEC is a codec folder, or `untrained`; without it, the backbone's default.
    """
    from jobs.evaluate import run_evaluate

    run_evaluate(
        codec,
        data,
        backbone=backbone,
        text_column=text_column,
        passages=passages,
        min_tokens=min_tokens,
        out=out,
        as_json=as_json,
    )
