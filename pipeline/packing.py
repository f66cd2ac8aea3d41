"""One streaming pass over a corpus: every record is read, judged, compared with those before it, and put into a unit.

Memory holds one batch of records without their texts, the unit being filled, and what the index on disk caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from pipeline.corpus import IGNORED, InputFile, Span
from pipeline.documents import Columns, Rejected
from pipeline.plan_file import Counts, Planned
from pipeline.readers import read_span
from pipeline.seen import BATCH, First, SeenIndex
from pipeline.units import Conflict, Unit, UnitDigest, conflicting

BYTES_A_CHUNK = 128 * 4  # 128 tokens of about 4 bytes


class Packing:
    """Iterate it once: the units in input order. Then `counts` says what was seen.

    A unit is closed when the next document would pass `unit_chunks` estimated chunks, and at the end of a file that
    holds at least half as many: rows appended to one large file then leave the units of the next as they were.
    """

    def __init__(self, files: Iterable[InputFile], columns: Columns, unit_chunks: int):
        self._files, self._columns, self._unit_chunks = files, columns, unit_chunks
        self._seen = SeenIndex()
        self._open = _OpenUnit()
        self._closed: list[Planned] = []
        self._file: InputFile | None = None
        self._file_load = 0
        self._tally = dict.fromkeys(Counts.__dataclass_fields__, 0)

    @property
    def counts(self) -> Counts:
        return Counts(**self._tally)

    def __iter__(self) -> Iterator[Planned]:
        records = self._scan()
        while batch := list(islice(records, BATCH)):
            for record, first in self._with_firsts(batch):
                self._add(record, first)
            yield from self._take_closed()
        self._close()
        yield from self._take_closed()

    def _scan(self) -> Iterator[_Scanned]:
        for file in self._files:
            self._tally["ignored" if file.format == IGNORED else "files"] += 1
            record = offset = 0
            for item, next_record, next_offset in (
                () if file.format == IGNORED else read_span(Span(file), self._columns)
            ):
                where = Span(file, record, next_record - record, offset, next_offset - offset)
                if item.__class__ is Rejected:
                    yield _Scanned(where, item.source, None, None, item.reason, 0)
                else:
                    text = item.text
                    size = len(text) if text.isascii() else len(text.encode())
                    yield _Scanned(where, item.source, item.doc_id, item.doc_hash, None, size)
                record, offset = next_record, next_offset

    def _with_firsts(self, batch: list[_Scanned]) -> Iterator[tuple[_Scanned, First | None]]:
        documents = [(record.doc_id, record.doc_hash, record.source) for record in batch if record.reason is None]
        firsts, place = self._seen.firsts(documents), 0
        for record in batch:
            yield record, firsts.get(place) if record.reason is None else None
            place += record.reason is None

    def _add(self, record: _Scanned, first: First | None) -> None:
        chunks = max(1, -(-record.size // BYTES_A_CHUNK)) if first is None else 1
        if record.where.file is not self._file:
            if 2 * self._file_load >= self._unit_chunks:
                self._close()
            self._file, self._file_load = record.where.file, 0
        if self._open.load + chunks > self._unit_chunks:
            self._close()
        self._open.add(record, first, chunks)
        self._file_load += chunks

    def _close(self) -> None:
        opened, self._open = self._open, _OpenUnit()
        self._tally["duplicates"] += len(opened.duplicates)
        if opened.doc_ids or opened.rejected:
            planned = opened.planned()
            self._closed.append(planned)
            self._tally["units"] += 1
            for name in ("documents", "rejected", "bytes", "chunks"):
                self._tally[name] += getattr(planned.unit, name)

    def _take_closed(self) -> list[Planned]:
        closed, self._closed = self._closed, []
        return closed


class _Scanned(NamedTuple):
    """A record without its text: a document, or a rejection if it has a reason."""

    where: Span
    source: str
    doc_id: str | None
    doc_hash: str | None
    reason: str | None
    size: int  # UTF-8 bytes of the text


class _OpenUnit:
    """The unit being filled. Every record weighs one chunk at least, so that its lists stay bounded."""

    def __init__(self):
        self.load = self.rejected = self._chunks = self._bytes = self._records = 0
        self.doc_ids: list[str] = []
        self.duplicates: list[int] = []
        self._doc_hashes: list[bytes] = []
        self._conflicts: list[Conflict] = []
        self._spans: list[Span] = []
        self._digest = UnitDigest()

    def add(self, record: _Scanned, first: First | None, chunks: int) -> None:
        self._extend(record.where)
        self.load += chunks
        if record.reason is not None:
            self._reject(record.source, record.reason)
        elif first is None:
            self._document(record, chunks)
        elif first.doc_hash == record.doc_hash:
            self.duplicates.append(self._records)
        else:
            self._conflicts.append(Conflict(self._records, first.source))
            self._reject(record.source, conflicting(record.source, record.doc_id, first.source, "").reason)
        self._records += 1

    def planned(self) -> Planned:
        unit = Unit(
            self._digest.hex(),
            tuple(self._spans),
            documents=len(self.doc_ids),
            chunks=self._chunks,
            bytes=self._bytes,
            rejected=self.rejected,
            duplicates=tuple(self.duplicates),
            conflicts=tuple(self._conflicts),
        )
        return Planned(unit, self.doc_ids, self._doc_hashes)

    def _document(self, record: _Scanned, chunks: int) -> None:
        self._digest.add_pair("document", record.doc_id, record.doc_hash)
        self.doc_ids.append(record.doc_id)
        self._doc_hashes.append(bytes.fromhex(record.doc_hash))
        self._chunks += chunks
        self._bytes += record.size

    def _reject(self, source: str, reason: str) -> None:
        self._digest.add_pair("rejected", source, reason)
        self.rejected += 1

    def _extend(self, where: Span) -> None:
        last = self._spans[-1] if self._spans else None
        if last is None or last.file is not where.file:
            self._spans.append(where)
            return
        count, length = where.first + where.count - last.first, where.offset + where.length - last.offset
        self._spans[-1] = Span(last.file, last.first, count, last.offset, length)
