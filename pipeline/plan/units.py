"""A work unit: a fixed, ordered run of records that is encoded and committed as one, and how it is read.

A unit holds no text and no document ids, so that thousands of them travel lightly; its id, a hash of what its documents
were when it was planned, tells its reader whether the input is still the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from model.refusal import Refusal
from pipeline.corpus.corpus import Span
from pipeline.corpus.documents import ColumnRoles, Document, Rejected, reject
from pipeline.corpus.readers import read_span
from pipeline.storage import storage


@dataclass(frozen=True, slots=True)
class Conflict:
    """A record whose id an earlier record, standing at `first`, has with another text."""

    ordinal: int  # place among the unit's records, from 0
    first: str


@dataclass(frozen=True, slots=True)
class Unit:
    """A fixed, ordered run of records. Which of them are left out was decided when it was planned."""

    unit_id: str  # 32 hex digits, over its documents' ids and hashes and its rejections; not over what a bank holds
    spans: tuple[Span, ...]
    documents: int
    chunks: int  # estimated: see pipeline/plan/plan.py
    bytes: int  # UTF-8, of the documents' texts
    rejected: int  # conflicts too
    duplicates: tuple[int, ...] = ()  # places among the unit's records: the same id and text came before
    conflicts: tuple[Conflict, ...] = ()
    held: tuple[int, ...] = ()  # places among the unit's documents: the bank has them so, or forgot them
    replaces: tuple[str, ...] = ()  # ids of documents the bank has with another text: their old rows go in this commit
    redo: int = 0  # not 0: finished once, but the bank has had its documents with another text since
    retry: int = 0  # not 0: finished once, and this is the attempt at what encoders left out of it

    @property
    def new_documents(self) -> int:
        return self.documents - len(self.held)

    @property
    def planned_chunks(self) -> int:
        """Chunks of the new documents, estimated."""
        return self.chunks * self.new_documents // max(1, self.documents)

    @property
    def commit_id(self) -> str:
        """What the bank records as finished: the unit's id, and a new one where it is done again."""
        return self.unit_id + (f"-{self.redo}" if self.redo else "") + (f"-r{self.retry}" if self.retry else "")


class ChangedInputError(Refusal):
    """A unit's input is not what it was when it was planned."""


def read_unit(unit: Unit, columns: ColumnRoles) -> Iterator[Document | Rejected]:
    """The unit's documents and rejections in order, without duplicates and held documents.

    `columns` is the plan's. What was read is compared with the unit's id after the last record, so commit nothing of a
    unit before its iterator has ended: ChangedInputError names the file that changed. OSError for a file that is gone.
    """
    doc_ids, doc_hashes, rejections, held = [], [], [], frozenset(unit.held)
    for item in _without_duplicates(unit, columns):
        if isinstance(item, Rejected):
            rejections.append((item.source, item.reason))
            yield item
            continue
        if len(doc_ids) not in held:
            yield item
        doc_ids.append(item.doc_id)
        doc_hashes.append(item.doc_hash)
    if unit_id_of(doc_ids, doc_hashes, rejections) != unit.unit_id:
        raise ChangedInputError(
            f"{_suspect(unit)} changed since it was planned: run the same command again, which plans anew"
        )


def unit_id_of(doc_ids: list[str], doc_hashes: list[str], rejections: list[tuple[str, str]]) -> str:
    """BLAKE2b-128 over documents and (source, reason) of rejections, each in order; JSON keeps their borders apart."""
    return blake2b(json.dumps([doc_ids, doc_hashes, rejections]).encode(), digest_size=16).hexdigest()


def conflicting(document: Document, first: str) -> Rejected:
    reason = f"the id {document.doc_id!r} stands at {first} already, with another text"
    return reject(document.source, document.doc_id, reason, document.text)


def _without_duplicates(unit: Unit, columns: ColumnRoles) -> Iterator[Document | Rejected]:
    duplicates = frozenset(unit.duplicates)
    conflicts = {conflict.ordinal: conflict.first for conflict in unit.conflicts}
    for ordinal, item in enumerate(_records(unit, columns)):
        if ordinal in conflicts and isinstance(item, Document):
            yield conflicting(item, conflicts[ordinal])
        elif ordinal not in duplicates:
            yield item


def _records(unit: Unit, columns: ColumnRoles) -> Iterator[Document | Rejected]:
    for span in unit.spans:
        for located in read_span(span, columns):
            yield located.item


def _suspect(unit: Unit) -> str:
    """The first file that is not as it was listed, else the first of all."""
    for span in unit.spans:
        entry = storage.stat(span.file.uri)
        listed = span.file.size, span.file.mtime_ns, span.file.ctime_ns
        if (entry.size, entry.mtime_ns, entry.ctime_ns) != listed:
            return span.file.uri
    return unit.spans[0].file.uri
