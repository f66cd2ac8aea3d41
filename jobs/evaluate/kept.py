"""What an evaluation has measured already, in one SQLite file: a killed one goes on, and no text is encoded twice.

A record is JSON beside arrays. It stands under three words: its kind (memory, vectors, draft, ...), its owner (the
identity of what made it) and its key (a hash of what it was made from). SQLite commits whole batches or none.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from model.refusal import Refusal

FILE = "kept.sqlite"
FEWEST = 16  # places that are worth a batch of their own


@dataclass(frozen=True, slots=True)
class Record:
    """`says` is JSON, `arrays` by name."""

    says: object
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def key_of(*parts: object) -> str:
    """32 hex digits of what a record was made from: strings, numbers, lists and dicts of them."""
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Kept:
    """One file, or memory where `path` is None. Several processes may share it: the last that writes a key wins."""

    def __init__(self, path: Path | None):
        self._database = sqlite3.connect(path or ":memory:", timeout=60)
        try:
            self._database.execute("pragma journal_mode = wal")
            self._database.execute(
                "create table if not exists kept (kind text, owner text, key text, says text, arrays blob,"
                " primary key (kind, owner, key)) without rowid"
            )
        except sqlite3.DatabaseError as error:
            raise Refusal(
                f"{path} cannot be read ({error}): it holds what was measured; remove it to begin anew"
            ) from None

    def close(self) -> None:
        self._database.close()

    def find(self, kind: str, owner: str, key: str) -> Record | None:
        found = self._database.execute(
            "select says, arrays from kept where kind = ? and owner = ? and key = ?", (kind, owner, key)
        ).fetchone()
        return None if found is None else Record(json.loads(found[0]), load(found[1]) if found[1] else {})

    def put(self, kind: str, owner: str, records: dict[str, Record]) -> None:
        """All of them in one commit."""
        rows = [
            (kind, owner, key, json.dumps(record.says), _bytes(record.arrays) if record.arrays else None)
            for key, record in records.items()
        ]
        with self._database:
            self._database.executemany("insert or replace into kept values (?, ?, ?, ?, ?)", rows)

    def fill(
        self,
        kind: str,
        owner: str,
        keys: Sequence[str],
        make: Callable[[list[list[int]]], Iterable[tuple[list[int], Sequence[Record]]]],
        *,
        batch: int,
        shares: int = 1,
        order: Callable[[int], float] = float,
        on_batch: Callable[[int, int], object] = lambda done, of: None,
    ) -> list[Record]:
        """A record a key, in order: what is kept already, and what `make` makes of the rest, `batch` places at once.

        `make` gets batches of places in `keys`, in the order that `order` sorts them by (texts of one length go
        together), each key once, and gives each batch with its records in any order. A batch is kept as soon as it is
        made. Few places are parted into `shares` batches. `on_batch` hears how many places of how many are made.
        """
        found = {key: self.find(kind, owner, key) for key in dict.fromkeys(keys)}
        place_of = {key: place for place, key in reversed(list(enumerate(keys)))}
        missing = sorted((place_of[key] for key, record in found.items() if record is None), key=order)
        batch = min(batch, max(FEWEST, -(-len(missing) // shares)))
        done = 0
        for places, records in make([missing[first : first + batch] for first in range(0, len(missing), batch)]):
            fresh = dict(zip((keys[i] for i in places), records, strict=True))
            self.put(kind, owner, fresh)
            found |= fresh
            done += len(places)
            on_batch(done, len(missing))
        return [found[key] for key in keys]


def _bytes(arrays: dict[str, np.ndarray]) -> bytes:
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
