"""Document ids met so far, in a table on disk: memory stays bounded however many there are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from pipeline.corpus.documents import Document
from pipeline.storage.index import full_disk, temporary_index

BATCH = 1024
ASKED_AT_ONCE = 500  # parameters of one SELECT


class First(NamedTuple):
    """The first document of an id."""

    doc_hash: str
    source: str


class SeenIndex:
    """Which documents of a corpus come first with their id."""

    def __init__(self):
        self._db = temporary_index(
            "CREATE TABLE seen (doc_id TEXT PRIMARY KEY, doc_hash BLOB, source TEXT) WITHOUT ROWID"
        )

    def firsts(self, documents: list[Document]) -> dict[int, First]:
        """Takes documents in order, and gives, by its place, for each that is not the first with its id, the first."""
        rows = [(document.doc_id, bytes.fromhex(document.doc_hash), document.source) for document in documents]
        with full_disk():
            before = self._db.total_changes
            self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows)
            if self._db.total_changes - before == len(rows):
                return {}
            return {i: first for i, row in enumerate(rows) if (first := self._first(row[0])).source != row[2]}

    def _first(self, doc_id: str) -> First:
        doc_hash, source = self._db.execute("SELECT doc_hash, source FROM seen WHERE doc_id = ?", (doc_id,)).fetchone()
        return First(doc_hash.hex(), source)


class HeldIndex:
    """The documents a bank holds, by id."""

    def __init__(self, held: Iterable[tuple[str, str]]):
        """`held` gives (doc_id, doc_hash), as often as it likes; it is streamed."""
        self._db = temporary_index("CREATE TABLE held (doc_id TEXT PRIMARY KEY, doc_hash BLOB) WITHOUT ROWID")
        rows = ((doc_id, bytes.fromhex(doc_hash)) for doc_id, doc_hash in held)
        with full_disk():
            while batch := list(islice(rows, BATCH)):
                self._db.executemany("INSERT OR IGNORE INTO held VALUES (?, ?)", batch)
            self.is_empty = self._db.execute("SELECT 1 FROM held LIMIT 1").fetchone() is None

    def hashes(self, doc_ids: list[str]) -> dict[str, bytes]:
        """The held ones among the ids, with their hashes."""
        found: dict[str, bytes] = {}
        for start in range(0, len(doc_ids), ASKED_AT_ONCE):
            asked = doc_ids[start : start + ASKED_AT_ONCE]
            marks = ",".join("?" * len(asked))
            found.update(self._db.execute(f"SELECT doc_id, doc_hash FROM held WHERE doc_id IN ({marks})", asked))
        return found
