"""`nextmem edit`: replace words in one chunk, or wherever they stand, in this process."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from jobs.output import chunks, emit, share, table
from nextmem.commands.options import as_json_option, where_option

if TYPE_CHECKING:
    from pipeline.change.edit import Edited

METHODS = ("encode", "refine", "patch")


@click.command()
@click.argument("bank")
@click.option("--id", "chunk", metavar="CHUNK", help="In this chunk, where OLD must stand just once.")
@where_option
@click.option("--all", "everywhere", is_flag=True, help="In every document.")
@click.option("--replace", nargs=2, required=True, metavar="OLD NEW", help="The words, and what comes in their place.")
@click.option("--method", type=click.Choice(METHODS), default="encode", show_default=True, help="See below.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps of --method refine, at most.  [default: 10]")
@click.option("--dry-run", is_flag=True, help="List the places, and change nothing.")
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
@as_json_option
def edit(bank, chunk, where, everywhere, replace, method, steps, dry_run, backbone, as_json):
    """Replace OLD by NEW in a chunk of BANK, or wherever OLD stands; documents recall to the changed text.

    encode: the new text is encoded. refine: the stored latents are moved towards it by optimizer steps. patch: latents
    and embedding stay, the row's patch says the rest; `nextmem tend` encodes such chunks later.

    All places change in one commit. --where and --all recall the documents to look for OLD.
    """
    if (chunk is not None) + bool(where) + everywhere != 1:
        raise click.UsageError("give one of --id CHUNK, --where and --all")
    if chunk is not None and dry_run:
        raise click.UsageError("--dry-run lists places for --where and --all; --id names the one there is")
    import nextmem
    from nextmem.commands.progress import CountBar

    old, new = replace
    with nextmem.open(bank, backbone=backbone) as opened:
        if chunk is not None:
            done = opened.edit(chunk, old, new, method=method, steps=steps)
        else:
            how = {"method": method, "steps": steps, "dry_run": dry_run}
            with CountBar("recalling", hidden=as_json, leave=False) as bar:
                done = opened.edit_everywhere(old, new, filter=where or None, on_progress=bar, **how)
    if as_json:
        emit({"event": "edited", **asdict(done)})
    else:
        _print(done)


def _print(done: Edited) -> None:
    for place in done.places if done.dry_run else ():
        print(f"{place.chunk_id}  {place.doc_id} [{place.char_start}]\n    {place.excerpt}")
    would = "would be edited" if done.dry_run else "edited"
    count = len(done.places)
    rows = [("bank", f"{done.bank}, version {done.version}")]
    if not count:
        rows.append(("edited", "nothing: the words stand nowhere"))
    else:
        rows.append((would, f"{count:,} place{'s' * (count != 1)} in {done.documents:,} documents"))
    if made := len(done.chunk_ids):
        rows.append(("written", f"{chunks(made)} by {done.method}"))
        rows.append(("fidelity", f"{share(done.fidelity / made)} of positions"))
        rows.append(("patch", f"{done.patch_bytes:,} bytes, {done.patch_bytes_before:,} before"))
    if made == 1:
        rows.append(("id", done.chunk_ids[0]))
    table(rows)
