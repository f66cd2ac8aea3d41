"""`nextmem stop`: stop a submitted job."""

from __future__ import annotations

import click

from nextmem.commands.options import address_option, as_json_option


@click.command()
@click.argument("job_id", metavar="ID")
@address_option
@as_json_option
def stop(job_id, address, as_json):
    """Stop the job ID as Ctrl-C would: what is finished is committed. Waits until it has ended."""
    from jobs.cluster.submitted import run_stop

    run_stop(job_id, address=address, as_json=as_json)
