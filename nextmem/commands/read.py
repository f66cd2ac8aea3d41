"""The commands that read a bank: recall, search, export, info, verify."""

from __future__ import annotations

import click

from nextmem.commands.options import as_json_option


@click.command()
@click.argument("bank")
@click.option("--id", "chunk", metavar="CHUNK", help="One chunk by its id.")
@click.option("--doc", metavar="DOC", help="All chunks of a document.")
@click.option("--all", "everything", is_flag=True, help="All documents.")
@click.option("--no-patch", is_flag=True, help="What the latents alone give, exact or not.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Chunks decoded at once.")
@as_json_option
def recall(bank, chunk, doc, everything, no_patch, backbone, batch_size, as_json):
    """Exact text to stdout, or an error that names the row."""
    if sum([chunk is not None, doc is not None, everything]) != 1:
        raise click.UsageError("give one of --id CHUNK, --doc DOC, --all")
    from nextmem.commands.run_recall import run_recall

    exact = run_recall(
        bank, chunk=chunk, doc=doc, patched=not no_patch, backbone=backbone, batch_size=batch_size, as_json=as_json
    )
    if not exact:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("bank")
@click.argument("query")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--recall", "with_text", is_flag=True, help="Print each row's text too.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def search(bank, query, k, with_text, backbone, as_json):
    """Rows of BANK nearest to QUERY by cosine."""
    from nextmem.commands.run_search import run_search

    run_search(bank, query, k=k, with_text=with_text, backbone=backbone, as_json=as_json)


@click.command()
@click.argument("bank")
@click.argument("out")
@as_json_option
def export(bank, out, as_json):
    """Write plain Parquet of the live rows to the new folder OUT."""
    from nextmem.commands.run_export import run_export

    run_export(bank, out, as_json=as_json)


@click.command()
@click.argument("bank")
@as_json_option
def info(bank, as_json):
    """Rows, documents, codec, sizes, fidelity and versions of BANK."""
    from nextmem.commands.run_info import run_info

    run_info(bank, as_json=as_json)


@click.command()
@click.argument("bank")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Decode N rows, drawn evenly, not all.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--weights", is_flag=True, help="Hash the backbone's weight files whole, not in samples.")
@click.option("--repair", is_flag=True, help="Take out files that cannot be read; the next encode makes their rows.")
@as_json_option
def verify(bank, sample, backbone, weights, repair, as_json):
    """Re-decode rows and check hashes, counts and duplicates. Exit code 1 if anything is wrong.

    --repair takes files that are gone or torn out of the bank, with the other files of their units. The next encode of
    the same corpus encodes whatever of it the bank does not hold, documents that were deleted on purpose too.
    """
    from nextmem.commands.run_verify import run_verify

    if not run_verify(bank, sample=sample, backbone=backbone, repair=repair, as_json=as_json, weights=weights):
        raise click.exceptions.Exit(1)
