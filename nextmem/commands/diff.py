"""`nextmem diff`: the documents that two versions of a bank do not share."""

from __future__ import annotations

from dataclasses import asdict

import click

from jobs.output import emit
from nextmem.commands.options import as_json_option

SIGNS = {"added": "+", "changed": "~", "gone": "-"}


@click.command()
@click.argument("bank")
@click.argument("old", metavar="V1", type=int)
@click.argument("new", metavar="V2", type=int)
@as_json_option
def diff(bank, old, new, as_json):
    """Show which documents of BANK were added (+), changed (~) or are gone (-) from version V1 to V2.

    Counts come first, then ids. A document whose text is the same has not changed, whatever became of its latents.
    """
    import nextmem

    with nextmem.open(bank) as opened:
        found = opened.diff(old, new)
    if as_json:
        counts = {"added": found.added, "changed": found.changed, "gone": found.gone}
        emit({"event": "counts", "old": found.old, "new": found.new, **counts, "files": found.files})
    else:
        print(f"{found.added:,} added, {found.changed:,} changed, {found.gone:,} gone, from version {old} to {new}")
    for each in found:
        if as_json:
            emit(asdict(each))
        else:
            print(f"{SIGNS[each.change]} {each.doc_id}")
