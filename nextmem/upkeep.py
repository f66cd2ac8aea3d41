"""The methods of a Bank that look after it: verify, refine, tend, index."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jobs.settings import RefineSettings, TendSettings, replaced
from nextmem.changing import encode_due
from nextmem.filters import Filter, expression
from pipeline.bank.count import Told

if TYPE_CHECKING:
    from nextmem.bank import Bank
    from pipeline.bank.build_index import Indexed
    from pipeline.bank.refine_bank import RefinedRows
    from pipeline.bank.tend import Tended
    from pipeline.bank.verify import Verdict


def verify(
    bank: Bank,
    *,
    sample: int | None = None,
    weights: bool = False,
    repair: bool = False,
    on_progress: Told = lambda done, of: None,
) -> Verdict:
    """Check counts, hashes and duplicates, and decode all rows or `sample` of them, drawn evenly.

    `weights`: hash the backbone's weight files whole, not in samples. `repair` takes files that cannot be read out
    of the newest version; the next encode makes their rows again. `on_progress` is told how many rows are decoded,
    and of how many. The verdict's `whole` says whether nothing is wrong. Raises BusyError where a repair would run
    beside another job.
    """
    from pipeline.bank.verify import verify

    with bank._lock:
        if repair:
            bank.reload()
        return verify(
            bank._open(), bank._loaded, sample=sample, weights=weights, repair=repair, on_progress=on_progress
        )


def refine(
    bank: Bank,
    steps: int | str = "auto",
    *,
    filter: Filter | None = None,
    on_progress: Told = lambda done, of: None,
    **settings: object,
) -> RefinedRows:
    """Make the latents of rows carry more of their text, in the newest version. Recall stays exact.

    `steps`: optimizer steps on each chunk's latents, fewer where they are right before; "auto": until they are.
    `on_progress` is told how many chunks are refined, and of how many. `settings`: refine_most and refine_batch.
    The same call again goes on where it stopped. Raises BusyError beside a tend or another refine.
    """
    from pipeline.bank.refine_bank import refine_bank

    (chosen,) = replaced(settings, RefineSettings())
    with bank._lock:
        table = bank._open()
        rows = expression(filter, table.schema)
        return refine_bank(table, bank._loaded, chosen.config(steps), where=rows, on_progress=on_progress)


def tend(bank: Bank, *, now: bool = False, dry_run: bool = False, **settings: object) -> Tended:
    """Join small files, remove what dead jobs and old versions left, checkpoint the log. Texts stay as they are.

    Chunks that an edit has only patched are encoded first. `now`: older versions go at once, and with them all that
    is left of what was forgotten. `dry_run` says what would be done. `settings`: orphan_hours and version_hours.
    Raises BusyError while another job is at work on the bank.
    """
    from pipeline.bank.tend import tend

    (chosen,) = replaced(settings, TendSettings())
    hours = {"orphan_hours": chosen.orphan_hours, "version_hours": chosen.version_hours}
    with bank._lock:
        encoded = encode_due(bank._open(), bank._loaded, dry_run=dry_run)
        return replace(tend(bank._open(), now=now, dry_run=dry_run, **hours), encoded=encoded)


def index(bank: Bank, *, recall: float = 0.95, on_progress: Told = lambda done, of: None) -> Indexed:
    """Build an index of this version's embeddings beside the table; searches use it while it fits the bank.

    `recall`: the share of the ten nearest that a search is to find. Needs FAISS (`pip install 'nextmem[index]'`).
    """
    from pipeline.bank.build_index import build_index

    return build_index(bank._open(), recall=recall, on_progress=on_progress)
