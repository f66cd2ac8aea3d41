"""Forgetting, a method of `nextmem.Bank` that stands here for its length. It acts on the newest version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nextmem.filters import Filter, expression

if TYPE_CHECKING:
    from nextmem.bank import Bank
    from pipeline.bank.forget import Forgot


def forget(
    bank: Bank,
    doc_ids: Sequence[str] | None = None,
    *,
    filter: Filter | None = None,
    undo: bool = False,
    dry_run: bool = False,
) -> Forgot:
    """Forget these documents, or each with a chunk that `filter` is true of: in one commit, and for good.

    No encode brings one back. `undo` does, while the version is kept: these documents, or what the last forget took
    out. `dry_run` says what would be done. An id that is forgotten already is counted and stays so. Raises NotInBank
    for an id that the bank knows nothing of, Refusal where there is nothing to bring back, BusyError beside a tend.
    """
    from pipeline.bank.bring_back import bring_back
    from pipeline.bank.forget import forget

    if undo and filter is not None:
        raise TypeError("undo takes doc_ids, or nothing for the last forget: a filter finds no row that is gone")
    if not undo and (doc_ids is None) == (filter is None):
        raise TypeError("give one of doc_ids and filter")
    if isinstance(doc_ids, str):
        raise TypeError("give a list of ids, not one id")
    with bank._lock:
        table = bank._open()
        if undo:
            return bring_back(table, doc_ids, dry_run=dry_run)
        return forget(table, doc_ids, where=expression(filter, table.schema), dry_run=dry_run)
