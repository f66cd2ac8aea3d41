"""`nextmem restore`: an older version of a bank becomes the newest."""

from __future__ import annotations

from dataclasses import asdict

import click

from jobs.output import emit, table
from nextmem.commands.options import as_json_option


@click.command()
@click.argument("bank")
@click.option("--version", type=int, metavar="V", help="The version whose rows to bring back.")
@click.option("--time", metavar="T", help="Or the newest version at this time: ISO 8601, UTC where no zone is named.")
@as_json_option
def restore(bank, version, time, as_json):
    """Make an older version's rows BANK's newest version, in one commit.

    The versions between stay, and can be restored in turn. The next `nextmem encode` of a corpus brings back what the
    corpus has and that version had not.
    """
    if (version is None) == (time is None):
        raise click.UsageError("give one of --version V and --time T; `nextmem history` lists them")
    import nextmem

    with nextmem.open(bank) as opened:
        done = opened.restore(version, time=time)
    if as_json:
        emit(asdict(done))
        return
    rows = [
        ("bank", f"{done.bank}, version {done.version}, as version {done.restored} was"),
        ("chunks", f"{done.chunks:,}, {done.chunks_before:,} before"),
        ("files", f"{done.files_back:,} came back, {done.files_out:,} left the table"),
    ]
    if done.forgotten:
        rows.append(("forgotten", f"{done.forgotten:,} documents stay out: `nextmem forget --undo` brings them back"))
    table(rows)
