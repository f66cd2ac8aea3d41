"""A bank's past, and other banks: methods of `nextmem.Bank` that stand here for their number."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from model.refusal import Refusal
from pipeline.bank.opened import open_bank

if TYPE_CHECKING:
    from nextmem.bank import Bank
    from pipeline.bank.diff import Diff
    from pipeline.bank.history import Version
    from pipeline.bank.restore import Restored


def history(self: Bank) -> list[Version]:
    """The versions that are kept, the oldest first: when, what was done, documents, chunks. Reads the log alone."""
    from pipeline.bank.history import history

    return list(history(self._open()))


def diff(self: Bank, old: int, new: int | None = None) -> Diff:
    """What changed from one version to another, or to the one this object stands on.

    The Diff has `added`, `changed` and `gone` as counts; iterating it gives the documents. Only files that the two do
    not share are read. Raises FileNotFoundError where a version was cleaned.
    """
    from pipeline.bank.diff import Diff

    table = self._open()
    later = table if new is None else open_bank(self.path, version=new)
    return Diff(open_bank(self.path, version=old), later)


def restore(self: Bank, version: int | None = None, *, time: datetime.datetime | str | None = None) -> Restored:
    """Make an older version's rows the newest version, in one commit; this object then stands on it.

    What came between stays in the history and can be restored in turn. The next encode brings back what its corpus has
    and that version had not. Raises FileNotFoundError where the version was cleaned, BusyError beside another job.
    """
    from pipeline.bank.restore import restore

    if (version is None) == (time is None):
        raise Refusal("give the version to restore, or a time")
    with self._lock:
        return restore(self._open(), open_bank(self.path, version=version, time=time))
