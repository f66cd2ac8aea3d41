"""`nextmem submit`: run another command on a Ray cluster."""

from __future__ import annotations

import click

from nextmem.commands.encode import encode
from nextmem.commands.options import address_option, as_json_option
from nextmem.commands.train import train

SUBMITTABLE = {"encode": encode, "train": train}


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("words", nargs=-1, required=True, metavar="-- encode|train ...")
@address_option
@click.option("--follow", "following", is_flag=True, help="Show the log to the end; the exit code is the job's.")
@click.option("--env", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable for the job. Never a credential.")
@as_json_option
def submit(words, address, following, pairs, as_json):
    """Run `nextmem encode ...` or `nextmem train ...` on a Ray cluster, with this version of NextMem.

    Paths must be s3://... or absolute and seen by every node. The same command again, once it has ended, goes on where
    it stopped. Ctrl-C leaves the log, not the job.
    """
    verb, *arguments = words
    if verb not in SUBMITTABLE:
        raise click.UsageError(f"{verb!r} cannot be submitted: give `-- encode ...` or `-- train ...`")
    variables = dict(_pair(pair) for pair in pairs)
    parameters = SUBMITTABLE[verb].make_context(f"nextmem {verb}", list(arguments)).params
    from jobs.cluster.submit import Command
    from jobs.cluster.submitted import run_submit

    command = Command(tuple(words), parameters)
    code = run_submit(command, variables, address=address, following=following, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)


def _pair(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {pair}: wanted NAME=VALUE")
    return name, value
