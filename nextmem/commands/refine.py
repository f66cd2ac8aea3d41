"""`nextmem refine`: raise the rows of an existing bank, in this process."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import chunks, emit, share, table
from nextmem.commands.options import AUTO, as_json_option, refine_option, where_option

if TYPE_CHECKING:
    from pipeline.bank.refine_bank import RefinedRows


@click.command()
@click.argument("bank")
@where_option
@refine_option
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="refine_most, refine_batch.")
@as_json_option
def refine(bank, where, refine, backbone, pairs, as_json):
    """Make the latents of rows that BANK holds carry more of their text. Recall stays exact, search as it is.

    Run the same command again to go on where it stopped. Exit code 1 if a row could not be refined.
    """
    import nextmem
    from jobs.settings import RefineSettings, typed_settings
    from nextmem.commands.progress import CountBar

    settings = typed_settings(pairs, RefineSettings())
    with nextmem.open(bank, backbone=backbone) as opened, CountBar("refining", hidden=as_json) as bar:
        done = opened.refine(refine or AUTO, filter=where, on_progress=bar, **settings)
    if as_json:
        emit({"event": "refined", "bank": opened.path, **asdict(done)})
    else:
        table([("bank", opened.path), *_rows(done)])
    if done.inexact or done.not_finite:
        raise click.exceptions.Exit(1)


def _rows(done: RefinedRows) -> list[tuple[str, str]]:
    rows = [("refined", "nothing: every row asked for is refined as far, or needs no patch")]
    if count := done.rows:
        before, after = done.patch_bytes_before / count, done.patch_bytes / count
        held, now = share(done.fidelity_before / count), share(done.fidelity / count)
        rows = [
            ("refined", f"{chunks(count)} in {done.steps / count:.1f} steps each"),
            ("fidelity", f"{now} of positions, {held} before"),
            ("patch", f"{after:.0f} bytes a chunk, {before:.0f} before"),
        ]
    if done.inexact:
        rows.append(("left", f"{done.inexact:,} chunks do not recall exactly: `nextmem verify` names them"))
    if done.not_finite:
        rows.append(("not refined", f"{done.not_finite:,} chunks: refining met numbers that are not finite"))
    return rows
