"""`nextmem logs`: what a submitted job has printed."""

from __future__ import annotations

import click

from nextmem.commands.options import address_option, as_json_option


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--follow", "following", is_flag=True, help="Go on to the end; the exit code is the job's.")
@address_option
@as_json_option
def logs(job_id, following, address, as_json):
    """What the job ID has printed. Ctrl-C leaves the log, not the job."""
    from jobs.cluster.submitted import run_logs

    code = run_logs(job_id, address=address, following=following, as_json=as_json)
    if code:
        raise click.exceptions.Exit(code)
