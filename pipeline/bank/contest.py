"""Of documents that several banks hold: which bank's rows stay. Decided in a table on disk, document by document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass

import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.schema import DOC_HASH, DOC_ID, ENCODED_AT, POSITION
from pipeline.storage.index import full_disk, temporary_index

SKIP, NEWEST, REFUSE = "skip", "newest", "refuse"
RULES = (REFUSE, SKIP, NEWEST)
_COLUMNS = "doc_id TEXT PRIMARY KEY, doc_hash TEXT, made INTEGER"
_TABLES = (
    f"CREATE TABLE held ({_COLUMNS}, origin INTEGER) WITHOUT ROWID",
    f"CREATE TABLE arriving ({_COLUMNS}) WITHOUT ROWID",
    "CREATE TABLE won (doc_id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE leaving (origin INTEGER, doc_id TEXT, PRIMARY KEY (origin, doc_id)) WITHOUT ROWID",
)
_BOTH = "FROM arriving a JOIN held h USING (doc_id) WHERE a.doc_hash"


@dataclass(frozen=True, slots=True)
class Score:
    """Documents of the banks that arrive."""

    same: int = 0  # held already, with the same text
    conflicts: int = 0  # held already, with another text
    replaced: int = 0  # conflicts that the arriving document won, for it was encoded later

    def plus(self, *more: int) -> Score:
        """With so many more, in the fields' order."""
        return Score(*(one + other for one, other in zip(astuple(self), more, strict=True)))


class Contest:
    """Banks enter in order; of the first nothing is left out but what a newer document replaces."""

    def __init__(self, rule: str):
        """`rule`: what becomes of a document that two banks hold with different texts. SKIP keeps the earlier bank's,
        NEWEST the one that was encoded last, REFUSE raises.
        """
        self.rule, self.score = rule, Score()
        self._index = temporary_index(*_TABLES)
        self._banks: list[Bank] = []

    def enter(self, bank: Bank) -> None:
        """Raises Refusal for a conflict under the rule REFUSE: how many, and the first."""
        self._banks.append(bank)
        with full_disk():
            self._read(bank)
            same, conflicts = self._count(f"{_BOTH} = h.doc_hash"), self._count(f"{_BOTH} != h.doc_hash")
            if conflicts and self.rule == REFUSE:
                raise Refusal(self._told(conflicts))
            self.score = self.score.plus(same, conflicts, self._count("FROM won"))
            self._settle(len(self._banks) - 1)

    def _read(self, bank: Bank) -> None:
        """The bank's documents, and which of them win against those held."""
        self._do("DELETE FROM arriving")
        self._do("DELETE FROM won")
        self._index.executemany("INSERT OR IGNORE INTO arriving VALUES (?, ?, ?)", _documents(bank))
        if self.rule == NEWEST:
            self._do(f"INSERT INTO won SELECT doc_id {_BOTH} != h.doc_hash AND a.made > h.made")

    def _settle(self, origin: int) -> None:
        """What is held with the bank's documents among it, and what leaves for that."""
        self._do("INSERT INTO leaving SELECT origin, doc_id FROM held WHERE doc_id IN won")
        self._do(
            f"INSERT INTO leaving SELECT {origin}, doc_id FROM arriving"
            " WHERE doc_id IN (SELECT doc_id FROM held) AND doc_id NOT IN won"
        )
        self._do(
            f"INSERT OR REPLACE INTO held SELECT doc_id, doc_hash, made, {origin} FROM arriving"
            " WHERE doc_id IN won OR doc_id NOT IN (SELECT doc_id FROM held)"
        )

    def leave_out(self, origin: int, doc_ids: Iterable[str]) -> None:
        """Documents of a bank that must not stay, whoever else holds them."""
        self._index.executemany("INSERT OR IGNORE INTO leaving VALUES (?, ?)", ((origin, doc_id) for doc_id in doc_ids))

    def count_brought(self) -> int:
        """Documents of all banks but the first that stay."""
        return self._count(
            "FROM held h WHERE origin > 0 AND (origin, doc_id) NOT IN (SELECT origin, doc_id FROM leaving)"
        )

    def leaving(self, origin: int) -> set[str]:
        """Documents of a bank, counted in the order of `enter`, whose rows do not stay."""
        found = self._index.execute("SELECT doc_id FROM leaving WHERE origin = ?", (origin,))
        return {doc_id for (doc_id,) in found}

    def staying(self, origin: int) -> Iterator[str]:
        """The others of that bank's."""
        left = "SELECT doc_id FROM leaving WHERE origin = ?1"
        wanted = f"SELECT doc_id FROM held WHERE origin = ?1 AND doc_id NOT IN ({left})"
        return (doc_id for (doc_id,) in self._index.execute(wanted, (origin,)))

    def _told(self, conflicts: int) -> str:
        wanted = f"SELECT a.doc_id, h.origin {_BOTH} != h.doc_hash ORDER BY a.doc_id LIMIT 1"
        doc_id, origin = self._index.execute(wanted).fetchone()
        both = f"{self._banks[origin].folder.uri} and {self._banks[-1].folder.uri}"
        what = "a document" if conflicts == 1 else f"{conflicts:,} documents"
        return (
            f"{both} hold {what} with different texts ({doc_id!r}{', ...' if conflicts > 1 else ''}): say with "
            "--on-conflict which stays, `skip` for the first bank's or `newest` for the one encoded last"
        )

    def _do(self, statement: str) -> None:
        self._index.execute(statement)

    def _count(self, wanted: str) -> int:
        return self._index.execute(f"SELECT count(*) {wanted}").fetchone()[0]


def _documents(bank: Bank) -> Iterator[tuple[str, str, int]]:
    """(doc_id, doc_hash, when encoded, in microseconds) of every document."""
    for batch in bank.rows([DOC_ID, DOC_HASH, ENCODED_AT], pc.field(POSITION) == 0, batch_rows=65_536):
        ids, hashes, made = batch.columns
        yield from zip(ids.to_pylist(), hashes.to_pylist(), made.cast("int64").to_pylist(), strict=True)
