"""The `nextmem` command. Starts fast: torch and Ray are imported only when a command runs.

Results go to stdout, progress to stderr. A refusal is one line and exit code 1; a usage error exits 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from jobs.stopping import Heed, Stopped
from nextmem.commands.convert import convert
from nextmem.commands.dashes import with_hint
from nextmem.commands.dedupe import dedupe
from nextmem.commands.diff import diff
from nextmem.commands.edit import edit
from nextmem.commands.encode import encode
from nextmem.commands.evaluate import evaluate
from nextmem.commands.export import export
from nextmem.commands.forget import forget
from nextmem.commands.history import history
from nextmem.commands.index import index
from nextmem.commands.info import info
from nextmem.commands.jobs import jobs
from nextmem.commands.logs import logs
from nextmem.commands.mcp import mcp
from nextmem.commands.merge import merge
from nextmem.commands.migrate import migrate
from nextmem.commands.recall import recall
from nextmem.commands.refine import refine
from nextmem.commands.remember import remember
from nextmem.commands.restore import restore
from nextmem.commands.search import search
from nextmem.commands.serve import serve
from nextmem.commands.status import status
from nextmem.commands.stop import stop
from nextmem.commands.submit import submit
from nextmem.commands.tend import tend
from nextmem.commands.train import train
from nextmem.commands.verify import verify
from nextmem.told import DEBUG, told

GROUPS = {  # what `nextmem --help` shows, in this order; 66 characters a line fit a terminal of 80
    "Make a bank": {
        encode: "Encode files, folders or a data set into a memory bank.",
    },
    "Use a bank": {
        search: "Find the chunks nearest to a query.",
        recall: "Give back the exact text of a chunk, a document or everything.",
        info: "Show what a bank holds: rows, codec, sizes, fidelity.",
        export: "Write rows for Parquet, Hugging Face, Lance, FAISS or DuckDB.",
    },
    "Change a bank": {
        remember: "Add a text or a few files at once, without Ray.",
        edit: "Replace words in a chunk, or wherever they stand.",
        forget: "Take documents out for good; no encode brings them back.",
        history: "List a bank's versions: when, what was done, how many chunks.",
        diff: "Show which documents two versions do not share.",
        restore: "Make an older version the newest again.",
        merge: "Bring other banks' rows into a bank.",
        dedupe: "Find documents that another one covers.",
        migrate: "Encode a bank anew by another codec, from its exact texts.",
    },
    "Serve a bank": {
        mcp: "Let agents use a bank through MCP.",
        serve: "Search, recall, remember and forget over HTTP.",
    },
    "Look after a bank": {
        status: "Show who writes to a bank, how far they are, and when they end.",
        verify: "Check that every row is there once and recalls exactly.",
        refine: "Make stored latents carry more of their text.",
        index: "Build an index, so that searching a large bank is fast.",
        convert: "Embed a bank's rows anew by a codec's head, in a new bank.",
        tend: "Join small files and remove what dead jobs left.",
    },
    "Make a codec": {
        train: "Train a codec on passages of text.",
        evaluate: "Measure what memories are worth, beside baselines.",
    },
    "Use a Ray cluster": {
        submit: "Run an encode or a train on a cluster.",
        jobs: "List the jobs that were submitted.",
        logs: "Show what a job has printed.",
        stop: "Stop a job; what is finished stays.",
    },
}


class Refusing(click.Group):
    """Turns what a person can mend into one line and exit code 1, and a fault of ours into one that says so."""

    def main(self, args: Sequence[str] | None = None, *rest, **more):
        given = sys.argv[1:] if args is None else list(args)
        odd = next((argument for argument in given if not _is_utf8(argument)), None)
        if odd is not None:
            line = f"the argument {os.fsencode(odd)!r} is not UTF-8: give it in UTF-8, or rename what it names"
            click.echo(f"nextmem: {line}", err=True)
            if more.get("standalone_mode", True):
                sys.exit(1)
            return 1
        return super().main(args, *rest, **{"obj": given} | more)

    def invoke(self, ctx: click.Context):
        signals = Heed()
        signals.begin()
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise with_hint(error, ctx.obj or ()) from None
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Stopped as error:
            raise click.exceptions.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except Exception as error:
            if os.environ.get(DEBUG):
                raise
            click.echo(f"nextmem: {told(error)}", err=True)
            raise click.exceptions.Exit(1) from None
        finally:
            signals.end()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in groups, a line each, all names in one column."""
        width = max(map(len, self.commands))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([((command.name or "").ljust(width), line) for command, line in commands.items()])


def _is_utf8(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


@click.group(cls=Refusing, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="nextmem")
def main() -> None:
    """Turn a corpus into a memory bank: latents a language model reads in place of text, with exact recall."""


for _commands in GROUPS.values():
    for _command in _commands:
        main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
