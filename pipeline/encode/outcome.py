"""What becomes of a work unit on its way: a chunk table, then an outcome, or a failure. And what is tried again."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.bank.commit import Receipt
from pipeline.corpus.documents import Rejected
from pipeline.plan.units import ChangedInputError
from pipeline.storage.s3_errors import explained

TRIES = 3  # of reading or writing a unit, before it is a failure
WAIT_SECONDS = 0.5
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}  # every other unit would fail alike


@dataclass(frozen=True, slots=True)
class ChunkedUnit:
    """A unit's chunk table. `starts`: the row at which each document begins, and one past the last."""

    unit_id: str
    replaces: tuple[str, ...]
    chunks: pa.Table
    starts: tuple[int, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that could not be done. `fatal`: neither could any other (disk full, no permission).

    `lasting`: trying it again in this job would end alike.
    """

    unit_id: str
    reason: str
    fatal: bool = False
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker hands the driver for a unit: a receipt to commit, or a failure to report."""

    receipt: Receipt | None = None
    failure: Failure | None = None
    worker: str = ""  # the encoder that did it, by its GPU or its actor's id
    started: float = 0.0  # seconds since the epoch, when its encoding began
    numbers: dict[str, float] = field(default_factory=dict)
    elsewhere: bool = False  # another job had committed the unit: nothing was encoded


def tried(unit_id: str, work: Callable):
    """What `work` returns, or a Failure after TRIES errors of the storage; a full disk is not tried again.

    An object store that fails a unit TRIES times, on top of its requests' own retries, would fail the others alike.
    """
    for attempt in range(TRIES):
        try:
            return work()
        except ChangedInputError as error:
            return Failure(unit_id, str(error), lasting=True)
        except OSError as error:
            store = explained(error)
            failure = Failure(unit_id, store or _line(error), fatal=error.errno in FATAL or store is not None)
            if error.errno in FATAL:
                return failure
            time.sleep(WAIT_SECONDS * 2**attempt)
    return failure


def _line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
