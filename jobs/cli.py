"""The `nextmem` command. Starts fast: torch and Ray are imported only when a command runs.

Results go to stdout, progress to stderr. A refusal is one line and exit code 1; a usage error exits 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

TROUBLE = "NEXTMEM_DEBUG=1 shows where it happened."


class Refusing(click.Group):
    """Turns what a person can mend into one line and exit code 1."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if os.environ.get("NEXTMEM_DEBUG"):
                raise
            click.echo(f"nextmem: {one_line(error)}", err=True)
            raise click.exceptions.Exit(1) from None


def one_line(error: Exception) -> str:
    """What went wrong, in a line; an error that is no one's refusal says how to see more."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    foreseen = isinstance(error, ValueError | OSError | ModuleNotFoundError | LookupError | RuntimeError)
    return message if foreseen and message else f"{type(error).__name__}: {message} {TROUBLE}"


@click.group(cls=Refusing, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nextmem")
def main() -> None:
    """Turn a corpus into a memory bank: latents a language model reads in place of text, with exact recall."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def as_json_option(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")(command)


@main.command()
@click.argument("corpus", nargs=-1, required=True)
@click.argument("bank")
@click.option("--codec", type=click.Path(), help="Codec folder. Default: the bank's own, or the backbone's.")
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--id-column", help="Default: a column `id` where there is one; else ids are made.")
@click.option("--columns", default="", metavar="A,B", help="Columns to carry along into the bank.")
@click.option("--actors", type=click.IntRange(min=1), help="Default: one a GPU; on a CPU one for each 4 cores.")
@click.option("--keep-text", is_flag=True, help="Store each chunk's text in its row as well.")
@click.option("--no-verify", is_flag=True, help="Skip verifying: faster, no patch, recall is exact only by luck.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see docs/settings.md.")
@as_json_option
def encode(
    corpus, bank, codec, backbone, text_column, id_column, columns, actors, keep_text, no_verify, pairs, as_json
):
    """Encode CORPUS (files, folders, globs, hf:NAME; Parquet, JSONL, text) into the memory bank BANK.

    Run the same command again to go on where it stopped, or to add what is new.
    """
    from jobs.encode import EncodeJob, run_encode
    from jobs.report import print_encoded
    from jobs.settings import EncodeSettings, apply_settings
    from model.config import CodecConfig
    from pipeline.documents import Columns

    settings, config = apply_settings(pairs, EncodeSettings(), CodecConfig())
    carry = tuple(name.strip() for name in columns.split(",") if name.strip())
    job = EncodeJob(
        corpus=corpus,
        bank=bank,
        columns=Columns(text=text_column, id=id_column, carry=carry),
        settings=settings,
        config=config,
        codec=codec,
        backbone=backbone,
        actors=actors,
        keep_text=keep_text,
        verify=not no_verify,
    )
    try:
        result = run_encode(job, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("\nstopped; what was finished is committed. Run the same command again to go on.", err=True)
        raise
    print_encoded(result, as_json=as_json)
    if not result.complete:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("run")
@click.option("--data", multiple=True, metavar="PASSAGES", help="Files, folders or globs; Parquet, JSONL, JSONL.gz.")
@click.option("--backbone", help="smollm2-135m (default), a Hugging Face id, or a model folder.")
@click.option("--stage", "stages", type=click.Choice(["both", "1", "2"]), help="Default: both.")
@click.option("--init", metavar="CODEC", help="Codec folder whose adapters to start from.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--gpus", is_flag=True, help="One GPU a worker.")
@click.option("--no-ray", is_flag=True, help="One process, without Ray.")
@click.option("--minutes", type=float, help="Stop whole after so long; the same command goes on.")
@click.option("--change", is_flag=True, help="Go on with other settings than the run folder's.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Any other setting; see docs/settings.md.")
@as_json_option
def train(run, data, backbone, stages, init, workers, gpus, no_ray, minutes, change, pairs, as_json):
    """Train a codec in the folder RUN; RUN/codec is what `nextmem encode --codec` takes.

    `nextmem train RUN` again goes on where it stopped, with any number of workers.
    """
    from jobs.train import TrainJob, run_train

    if no_ray and workers > 1:
        raise click.UsageError("--no-ray is one process: leave out --workers")
    job = TrainJob(
        run=run,
        data=data,
        backbone=backbone,
        stages=stages,
        init=init,
        pairs=pairs,
        workers=workers,
        gpus=gpus,
        use_ray=not no_ray,
        minutes=minutes,
        change=change,
    )
    try:
        done = run_train(job, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("\nstopped; `nextmem train` with the same folder goes on from the last checkpoint.", err=True)
        raise
    if not done:
        click.echo(f"the time is up; `nextmem train {run}` goes on.", err=True)
    elif not as_json:
        click.echo(os.path.join(run, "codec"))


@main.command()
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
    from jobs.recall import run_recall

    exact = run_recall(
        bank, chunk=chunk, doc=doc, patched=not no_patch, backbone=backbone, batch_size=batch_size, as_json=as_json
    )
    if not exact:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("bank")
@click.argument("query")
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--recall", "with_text", is_flag=True, help="Print each row's text too.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def search(bank, query, k, with_text, backbone, as_json):
    """Rows of BANK nearest to QUERY by cosine."""
    from jobs.search import run_search

    run_search(bank, query, k=k, with_text=with_text, backbone=backbone, as_json=as_json)


@main.command()
@click.argument("bank")
@click.argument("out")
@as_json_option
def export(bank, out, as_json):
    """Write plain Parquet of the live rows to the new folder OUT."""
    from jobs.export import run_export

    run_export(bank, out, as_json=as_json)


@main.command()
@click.argument("bank")
@as_json_option
def info(bank, as_json):
    """Rows, documents, codec, sizes, fidelity and versions of BANK."""
    from jobs.info import run_info

    run_info(bank, as_json=as_json)


@main.command()
@click.argument("bank")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Decode N rows, drawn evenly, not all.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def verify(bank, sample, backbone, as_json):
    """Re-decode rows and check hashes, counts and duplicates. Exit code 1 if anything is wrong."""
    from jobs.verify import run_verify

    if not run_verify(bank, sample=sample, backbone=backbone, as_json=as_json):
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    sys.exit(main())
