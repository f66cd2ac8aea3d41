"""`nextmem history`: a bank's versions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import emit
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    from pipeline.bank.history import Version

HEAD = f"{'version':>7}  {'time (UTC)':<19}  {'done':<12}  {'documents':>9}  {'chunks':>12}  change"


@click.command()
@click.argument("bank")
@as_json_option
def history(bank, as_json):
    """List BANK's versions, the oldest first: when each was made, what was done, and how many chunks it has.

    `nextmem diff` shows what two of them do not share, `nextmem restore` makes one the newest again.
    """
    import nextmem

    with nextmem.open(bank) as opened:
        versions = opened.history()
    if not as_json:
        print(HEAD)
    for version in versions:
        if as_json:
            emit(asdict(version))
        else:
            print(_line(version))


def _line(each: Version) -> str:
    documents = "" if each.documents is None else f"{each.documents:,}"
    when = f"{each.time:%Y-%m-%d %H:%M:%S}"
    return f"{each.version:>7}  {when}  {each.done:<12}  {documents:>9}  {each.chunks:>12,}  {each.change:+,}"
