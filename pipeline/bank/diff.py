"""What changed between two versions of a bank: documents added, changed, gone.

Only files that one of the two has and the other has not are read, and of them three small columns. A document whose
rows were merely written anew (refined, or kept while a neighbour went) is the same document: its text's hash decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.bank.bank import Bank
from pipeline.schema import DOC_HASH, DOC_ID, POSITION
from pipeline.storage.index import full_disk, temporary_index

ADDED, CHANGED, GONE = "added", "changed", "gone"
_TABLES = [f"CREATE TABLE {name} (doc_id TEXT PRIMARY KEY, doc_hash TEXT) WITHOUT ROWID" for name in ("old", "new")]
_WANTED = {
    ADDED: "FROM new LEFT JOIN old USING (doc_id) WHERE old.doc_id IS NULL",
    CHANGED: "FROM new JOIN old USING (doc_id) WHERE new.doc_hash != old.doc_hash",
    GONE: "FROM old LEFT JOIN new USING (doc_id) WHERE new.doc_id IS NULL",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One document that is not in both versions alike."""

    doc_id: str
    change: str  # ADDED, CHANGED or GONE


class Diff:
    """Counts at once; iterate it for the documents, sorted by id within each kind. Nothing of it is kept in memory."""

    def __init__(self, old: Bank, new: Bank):
        """Two versions of one bank."""
        self.old, self.new = old.version, new.version
        self._index = temporary_index(*_TABLES)
        before, after = set(old.files()), set(new.files())
        self.files = len(before ^ after)  # read
        with full_disk():
            for name, bank, files in (("old", old, before - after), ("new", new, after - before)):
                self._index.executemany(f"INSERT OR IGNORE INTO {name} VALUES (?, ?)", _documents(bank, files))
        self.added, self.changed, self.gone = (self._count(kind) for kind in _WANTED)

    def __repr__(self) -> str:
        return f"Diff({self.old} to {self.new}: {self.added} added, {self.changed} changed, {self.gone} gone)"

    def __iter__(self) -> Iterator[Change]:
        for kind, wanted in _WANTED.items():
            for (doc_id,) in self._index.execute(f"SELECT doc_id {wanted} ORDER BY doc_id"):
                yield Change(doc_id, kind)

    def _count(self, kind: str) -> int:
        with full_disk():
            return self._index.execute(f"SELECT count(*) {_WANTED[kind]}").fetchone()[0]


def _documents(bank: Bank, files: Set[str]) -> Iterator[tuple[str, str]]:
    """(doc_id, doc_hash) of each document that begins in one of these files."""
    rows = ds.dataset(sorted(files), bank.schema, "parquet", bank.folder.filesystem)
    for batch in rows.to_batches(columns=[DOC_ID, DOC_HASH], filter=pc.field(POSITION) == 0):
        yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
