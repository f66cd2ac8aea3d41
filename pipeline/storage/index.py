"""A table for what does not fit into memory, in SQLite's own temporary file on disk.

SQLite deletes the file when the connection goes away, also when the process dies. It lies in SQLITE_TMPDIR, else in
TMPDIR.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

CACHE_KB = 64 << 10


def temporary_index(*statements: str) -> sqlite3.Connection:
    """A private database, once the statements that make its tables have run."""
    # "": a private file on disk, deleted on close. It is made by one thread and read by another, never at once.
    db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KB}", "locking_mode=EXCLUSIVE"):
        db.execute(f"PRAGMA {pragma}")
    for statement in statements:
        db.execute(statement)
    db.execute("BEGIN")  # and never a commit, which would write every batch's pages out
    return db


@contextmanager
def full_disk() -> Iterator[None]:
    """Says plainly that the disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise OSError(errno.ENOSPC, "No space left for the index of document ids; set SQLITE_TMPDIR", None) from error
