"""`nextmem migrate`: a bank's documents, recalled exactly, into a bank of another codec."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nextmem.commands.options import as_json_option, pool_option, rate_options, refine_option, say

if TYPE_CHECKING:
    from jobs.encode.migrate import MigrateResult


@click.command()
@click.argument("bank")
@click.argument("out")
@click.option("--codec", type=click.Path(), help="Codec folder, or `untrained`. Default: BANK's or the backbone's.")
@click.option("--backbone", help="Of the new codec: smollm2-135m, a Hugging Face id, or a model folder.")
@click.option("--actors", type=click.IntRange(min=1), help="As of `nextmem encode`.")
@click.option("--gpus/--no-gpus", default=None, help="As of `nextmem encode`.")
@pool_option
@click.option("--keep-text", is_flag=True, help="Store each chunk's text in its row as well.")
@click.option("--keep-words", is_flag=True, help="Store hashed words, for `search --by words|both`.")
@click.option("--retry-rejected", is_flag=True, help="Try again the documents that did not come over.")
@refine_option
@rate_options
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see docs/settings.md.")
@as_json_option
def migrate(bank, out, pairs, as_json, **asked):
    """Encode BANK's documents anew, by another codec, backbone or precision, into the bank OUT. BANK stays as it is.

    Every document is recalled and compared with the hash of what was encoded; one that differs is left out by name. The
    same command again goes on. Exit code 1 where a document did not come over.
    """
    import nextmem
    from jobs.settings import EncodeSettings, RefineSettings, typed_settings
    from model.config import CodecConfig
    from nextmem.commands.progress import EncodeBar
    from nextmem.commands.report import print_encoded

    asked |= typed_settings(pairs, EncodeSettings(), RefineSettings(), CodecConfig())
    try:
        with nextmem.open(bank) as opened, EncodeBar(as_json=as_json) as bar:
            result = opened.migrate(out, on_progress=bar, say=say, **asked)
    except KeyboardInterrupt:
        say("\nstopped; what was finished is committed. Run the same command again to go on.")
        raise
    print_encoded(result.encoded, as_json=as_json)
    _print(result, as_json=as_json)
    if not result.complete:
        raise click.exceptions.Exit(1)


def _print(result: MigrateResult, *, as_json: bool) -> None:
    from jobs.output import emit, table

    if as_json:
        counts = {"documents": result.documents, "lacking": result.lacking, "named": result.named}
        emit({"event": "migrated", "source": result.source, **counts, "records": result.records})
        return
    table([("migrated", f"{result.documents:,} documents, each with the hash it has in {result.source}")])
    if result.lacking:
        some = ", ".join(map(repr, result.named)) + (", ..." if result.lacking > len(result.named) else "")
        print(f"{result.lacking:,} documents did not come over ({some})", file=sys.stderr)
