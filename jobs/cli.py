"""The `nextmem` command. Starts fast: torch and Ray are imported only when a command runs.

Results go to stdout, progress to stderr. A refusal is one line and exit code 1; a usage error exits 2.
"""

from __future__ import annotations

import os
import sys

import click

from jobs.commands.encode import encode
from jobs.commands.evaluate import evaluate
from jobs.commands.read import export, info, recall, search, verify
from jobs.commands.submit import jobs, logs, stop, submit
from jobs.commands.tend import refine, status, tend
from jobs.commands.train import train
from jobs.token import join_with_token
from pipeline.s3_errors import explained

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
    if store := explained(error):
        return store
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
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else a late call to Ray starts it again while we end
    join_with_token()


for command in (
    encode,
    recall,
    search,
    export,
    info,
    verify,
    train,
    evaluate,
    status,
    tend,
    refine,
    submit,
    jobs,
    logs,
    stop,
):
    main.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
