"""Whose fault it is that documents of a unit could not be encoded: their own, or the machine's.

A machine's fault must never cost a document. So an error counts against a document only if nothing else explains it:

- Memory that ran out, a storage error and numbers that are not finite are the machine's, whoever provokes them.
- Where no document of the unit passes, it is the machine. So a unit of one document proves nothing.
- Where two documents with different texts fail alike, it is the machine.
- A document that failed alone, while others of its unit passed, is under suspicion. Once it has done so in a second
  process, with the same error, it is proven to be at fault, and is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.corpus.documents import one_line
from pipeline.encode.batch_size import is_out_of_memory

VARYING = re.compile(r"0x[0-9a-f]+|\d+")  # addresses, sizes and places: they differ between errors of one kind


@dataclass(frozen=True, slots=True)
class Fault:
    """A document that failed alone."""

    document: int  # its place in the unit
    doc_id: str
    doc_hash: str
    error: str  # one line

    @property
    def kind(self) -> str:
        """The same for errors that are alike."""
        return VARYING.sub("#", self.error)


class MachineFaultError(RuntimeError):
    """What went wrong is not a document's doing, or not yet proven to be. The rest is as in a Failure."""

    def __init__(self, reason: str, *, fatal: bool = False, lasting: bool = False):
        super().__init__(reason)
        self.fatal, self.lasting = fatal, lasting


def described(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}")


def is_machines(error: BaseException) -> bool:
    """Whether no document can cause it."""
    return is_out_of_memory(error) or isinstance(error, OSError | ArithmeticError)


def require_unlike(faults: Sequence[Fault]) -> None:
    """MachineFaultError where the last fault is like an earlier one of another text."""
    last = faults[-1]
    for fault in faults[:-1]:
        if fault.kind == last.kind and fault.doc_hash != last.doc_hash:
            raise MachineFaultError(f"documents {fault.doc_id!r} and {last.doc_id!r} failed alike: {last.error}")


def require_passed(faults: Sequence[Fault], killers: int, passed: int) -> None:
    """MachineFaultError where documents failed, or ended their workers, and none of their unit was encoded."""
    if passed or not (faults or killers):
        return
    found = faults[0].error if faults else "encoding ended its worker twice"
    count = len(faults) + killers
    raise MachineFaultError(f"none of its {count} documents could be encoded: {found}", lasting=not faults)
