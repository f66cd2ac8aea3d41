"""`nextmem jobs`: the submitted jobs of a cluster."""

from __future__ import annotations

import click

from nextmem.commands.options import address_option, as_json_option


@click.command()
@address_option
@as_json_option
def jobs(address, as_json):
    """The submitted jobs that the cluster remembers, oldest first."""
    from jobs.cluster.submitted import run_jobs

    run_jobs(address=address, as_json=as_json)
