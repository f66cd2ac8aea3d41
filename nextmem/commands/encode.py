"""`nextmem encode`: its arguments."""

from __future__ import annotations

import click

from nextmem.commands.options import as_json_option, pool_option, rate_options, refine_option, say


@click.command()
@click.argument("corpus", nargs=-1, required=True)
@click.argument("bank")
@click.option(
    "--codec", type=click.Path(), help="Codec folder, or `untrained`. Default: the bank's, or the backbone's."
)
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--id-column", help="Default: a column `id` where there is one; else ids are made. '': always.")
@click.option("--columns", default="", metavar="A,B", help="Columns of yours that the bank keeps as metadata.")
@click.option(
    "--actors",
    type=click.IntRange(min=1),
    help="Default: one a GPU; on CPUs one a core, as memory allows.",
)
@click.option(
    "--gpus/--no-gpus", default=None, help="A GPU for each actor, waited for; or CPUs. Default: what there is."
)
@pool_option
@click.option("--keep-text", is_flag=True, help="Store each chunk's text in its row as well.")
@click.option("--keep-words", is_flag=True, help="Store each chunk's hashed words: `nextmem search --by words|both`.")
@click.option("--no-verify", is_flag=True, help="Skip verifying: faster, no patch, recall is exact only by luck.")
@click.option("--retry-rejected", is_flag=True, help="Try again the documents that encoders (not readers) rejected.")
@refine_option
@rate_options
@click.option("--dry-run", is_flag=True, help="Say what encoding would take: units, chunks, bytes, hours, cost.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see docs/settings.md.")
@as_json_option
def encode(
    corpus,
    bank,
    codec,
    backbone,
    text_column,
    id_column,
    columns,
    actors,
    gpus,
    pool,
    keep_text,
    keep_words,
    no_verify,
    retry_rejected,
    refine,
    latents,
    bits,
    dry_run,
    pairs,
    as_json,
):
    """Encode CORPUS (files, folders, globs, hf:NAME; Parquet, JSONL, text) into the memory bank BANK.

    Run the same command again to go on where it stopped, or to add what is new.
    """
    from jobs.settings import EncodeSettings, RefineSettings, typed_settings
    from model.config import CodecConfig

    if refine and no_verify:
        raise click.UsageError("--refine needs verifying, which says where latents err: leave --no-verify out")
    asked = {
        "codec": codec,
        "backbone": backbone,
        "text_column": text_column,
        "id_column": id_column,
        "columns": [name.strip() for name in columns.split(",") if name.strip()],
        "actors": actors,
        "gpus": gpus,
        "pool": pool,
        "keep_text": keep_text,
        "keep_words": keep_words,
        "verify": not no_verify,
        "retry_rejected": retry_rejected,
        "refine": refine,
        "latents": latents,
        "bits": bits,
        **typed_settings(pairs, EncodeSettings(), RefineSettings(), CodecConfig()),
    }
    (_dry if dry_run else _run)(corpus, bank, asked, as_json)


def _dry(corpus: tuple[str, ...], bank: str, asked: dict, as_json: bool) -> None:
    from jobs.cluster.session import set_variables

    set_variables()
    from jobs.encode.dry_run import run_dry
    from nextmem.commands.report import print_estimate
    from nextmem.encoding import encode_request

    print_estimate(run_dry(encode_request(corpus, bank, **asked)), as_json=as_json)


def _run(corpus: tuple[str, ...], bank: str, asked: dict, as_json: bool) -> None:
    import nextmem
    from nextmem.commands.progress import EncodeBar
    from nextmem.commands.report import print_encoded

    try:
        with EncodeBar(as_json=as_json) as bar:
            result = nextmem.encode(corpus, bank, on_progress=bar, say=say, **asked)
    except KeyboardInterrupt:
        say("\nstopped; what was finished is committed. Run the same command again to go on.")
        raise
    print_encoded(result, as_json=as_json)
    if not result.complete:
        raise click.exceptions.Exit(1)
