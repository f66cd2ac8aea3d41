"""The commands that look after a bank: status, tend, refine."""

from __future__ import annotations

import click

from nextmem.commands.options import AUTO, as_json_option, refine_option


@click.command()
@click.argument("bank")
@as_json_option
def status(bank, as_json):
    """Who writes to BANK: planned, done, failed, rejected, rate, ETA, age of the last commit."""
    from nextmem.commands.run_status import run_status

    run_status(bank, as_json=as_json)


@click.command()
@click.argument("bank")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="orphan_hours, version_hours.")
@as_json_option
def tend(bank, dry_run, pairs, as_json):
    """Join BANK's small files, remove what dead jobs and old versions left, checkpoint its log.

    Refuses while another job writes to the bank. The rows stay as they are.
    """
    from jobs.settings import TendSettings, apply_settings
    from nextmem.commands.run_tend import run_tend

    (settings,) = apply_settings(pairs, TendSettings())
    run_tend(bank, settings, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("bank")
@click.option(
    "--where", multiple=True, metavar="'NAME OP VALUE'", help="Only rows for which this holds; may be repeated."
)
@refine_option
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="refine_most, refine_batch.")
@as_json_option
def refine(bank, where, refine, backbone, pairs, as_json):
    """Make the latents of rows that BANK holds carry more of their text. Recall stays exact, search as it is.

    Run the same command again to go on where it stopped. Exit code 1 if a row could not be refined.
    """
    from jobs.settings import RefineSettings, apply_settings
    from nextmem.commands.run_refine import run_refine

    (settings,) = apply_settings(pairs, RefineSettings())
    if not run_refine(bank, settings.config(refine or AUTO), where=where, backbone=backbone, as_json=as_json):
        raise click.exceptions.Exit(1)
