"""Whether a place lies inside a table: what is put there would count among its rows for `BANK/**/*.parquet`, and no
upkeep of the bank would ever see it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from model.refusal import Taken
from pipeline.bank.transaction_log import LOG
from pipeline.storage import storage


def refuse_inside_a_table(uri: str, what: str) -> None:
    """FileExistsError where `uri`, a place for `what`, is a Delta table's folder or lies below one."""
    for distance, folder in enumerate(_around(uri)):
        if _is_table(folder):
            where = f"lies inside the table {folder}" if distance else "is a table already"
            raise Taken(f"{uri} {where}: {what} needs a folder of its own, outside of any bank.")


def _around(uri: str) -> Iterator[str]:
    """The place itself, then every folder around it. On a disk, where links lead to."""
    scheme, mark, path = uri.rpartition("://") if storage.is_remote(uri) else ("", "", os.path.realpath(uri))
    while path.strip("/"):
        yield f"{scheme}{mark}{path}"
        path = path.rpartition("/")[0]


def _is_table(folder: str) -> bool:
    try:
        return storage.exists(storage.join(folder, LOG))
    except OSError:  # a store may let nobody look above one's own keys
        return False
