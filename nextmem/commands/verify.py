"""`nextmem verify`: is every chunk there once, and does it recall exactly?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.output import emit, table
from nextmem.commands.options import as_json_option

if TYPE_CHECKING:
    import nextmem

SHOWN = 20


@click.command()
@click.argument("bank")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Decode N rows, drawn evenly, not all.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--weights", is_flag=True, help="Hash the backbone's weight files whole, not in samples.")
@click.option("--repair", is_flag=True, help="Take out files that cannot be read; the next encode makes their rows.")
@as_json_option
def verify(bank, sample, backbone, weights, repair, as_json):
    """Re-decode rows and check hashes, counts and duplicates. Exit code 1 if anything is wrong.

    --repair takes files that are gone or torn out of the bank, with the other files of their units. The next encode of
    the same corpus encodes whatever of it the bank neither holds nor was told to forget.
    """
    import nextmem
    from nextmem.commands.progress import CountBar

    with nextmem.open(bank, backbone=backbone) as opened, CountBar("decoding", hidden=as_json) as bar:
        found = opened.verify(sample=sample, weights=weights, repair=repair, on_progress=bar)
    if as_json:
        emit(_record(found))
    else:
        _print(found)
    if not found.whole:
        raise click.exceptions.Exit(1)


def _record(found: nextmem.Verdict) -> dict:
    return {
        "bank": found.bank,
        "chunks": found.chunks,
        "decoded": found.decoded,
        "problems": [str(problem) for problem in found.problems],
        "damaged": [str(problem) for problem in found.damaged],
        "dropped": found.dropped,
    }


def _print(found: nextmem.Verdict) -> None:
    for problem in found.damaged:
        print(problem)
    if found.dropped:
        print(
            f"{len(found.dropped):,} files were taken out of the bank, those above with the other files of their "
            "units: run the same `nextmem encode` again to encode what is missing"
        )
    for problem in found.problems[:SHOWN]:
        print(problem)
    count = len(found.problems)
    more = f" (the first {SHOWN} are shown)" if count > SHOWN else ""
    verdict = "whole: every chunk once, every hash right" if found.whole else f"{count:,} problems{more}"
    table([("bank", found.bank), ("chunks", f"{found.chunks:,}, {found.decoded:,} decoded"), ("verdict", verdict)])
