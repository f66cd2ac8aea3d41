"""One streaming pass over a corpus: every record is read, judged, compared with those before it, and put into a unit.

Memory holds a few megabytes of text, the unit being filled, and what the index on disk caches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from pipeline.corpus.corpus import IGNORED, InputFile, Located, Span
from pipeline.corpus.documents import ColumnRoles, Document, Rejected
from pipeline.corpus.readers import read_span
from pipeline.plan.plan_file import Counts, Planned
from pipeline.plan.seen import First, SeenIndex
from pipeline.plan.units import Conflict, Unit, conflicting, unit_id_of

BYTES_A_CHUNK = 128 * 4  # 128 tokens of about 4 bytes
BATCH_RECORDS, BATCH_CHARS = 1024, 4 << 20  # looked up in the index at once


class Packing:
    """Iterate it once: the units in input order. Then `counts` says what was seen.

    A unit is closed when the next document would pass `unit_chunks` estimated chunks, and at the end of a file that
    holds at least half as many: rows appended to one large file then leave the units of the next as they were.
    """

    def __init__(
        self,
        files: Iterable[InputFile],
        columns: ColumnRoles,
        unit_chunks: int,
        progress: Callable[[Counts], None] | None = None,
    ):
        """`progress` is called every few megabytes with what was packed so far."""
        self._files, self._columns, self._unit_chunks = files, columns, unit_chunks
        self._progress = progress or (lambda counts: None)
        self._seen = SeenIndex()
        self._open = _OpenUnit()
        self._closed: list[Planned] = []
        self._tally = {name: 0 for name in Counts.__dataclass_fields__ if name != "passed_over"}
        self._passed_over: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        return Counts(**self._tally, passed_over=dict(self._passed_over.most_common()))

    def __iter__(self) -> Iterator[Planned]:
        for file in self._files:
            if file.format == IGNORED:
                self._passed_over[file.ending] += 1
                continue
            self._tally["files"] += 1
            yield from self._pack_file(file)
        self._close()
        yield from self._take_closed()

    def _pack_file(self, file: InputFile) -> Iterator[Planned]:
        load, start = 0, (0, 0)
        for batch in _batches(read_span(Span(file), self._columns)):
            for located, first in self._with_firsts(batch):
                load += self._add(file, start, located, first)
                start = located[1:]
            self._progress(self.counts)
            yield from self._take_closed()
        if 2 * load >= self._unit_chunks:
            self._close()
            yield from self._take_closed()

    def _with_firsts(self, batch: list[Located]) -> list[tuple[Located, First | None]]:
        """Beside each document that is not the first with its id: the first."""
        documents = [i for i, located in enumerate(batch) if located.item.__class__ is Document]
        found = self._seen.firsts([batch[i].item for i in documents])
        firsts = {documents[place]: first for place, first in found.items()}
        return [(located, firsts.get(i)) for i, located in enumerate(batch)]

    def _add(self, file: InputFile, start: tuple[int, int], located: Located, first: First | None) -> int:
        """Puts a record into a unit; gives its weight in chunks. What is not encoded weighs one: lists stay bounded."""
        item = located.item
        is_new = item.__class__ is Document and first is None
        size = _utf8_bytes(item.text) if is_new else 0
        weight = -(-size // BYTES_A_CHUNK) or 1
        if self._open.load + weight > self._unit_chunks:
            self._close()
        unit = self._open
        unit.reach(file, start, located)
        if is_new:
            unit.add_document(item, size, weight)
        else:
            unit.leave_out(item, first)
        unit.load += weight
        return weight

    def _close(self) -> None:
        opened, self._open = self._open, _OpenUnit()
        self._tally["duplicates"] += len(opened.duplicates)
        if opened.doc_ids or opened.rejections:
            planned = opened.planned()
            self._closed.append(planned)
            self._tally["units"] += 1
            for name in ("documents", "rejected", "bytes", "chunks"):
                self._tally[name] += getattr(planned.unit, name)

    def _take_closed(self) -> list[Planned]:
        closed, self._closed = self._closed, []
        return closed


class _OpenUnit:
    """The unit being filled."""

    def __init__(self):
        self.load = self.records = self._chunks = self._bytes = 0
        self.doc_ids: list[str] = []
        self.rejections: list[tuple[str, str]] = []
        self.duplicates: list[int] = []
        self._doc_hashes: list[str] = []
        self._conflicts: list[Conflict] = []
        self._runs: list[list] = []  # [file, its first record's start, its last record's end]

    def reach(self, file: InputFile, start: tuple[int, int], located: Located) -> None:
        """The next record: the unit's run of this file goes on to its end."""
        if not self._runs or self._runs[-1][0] is not file:
            self._runs.append([file, start, located])
        self._runs[-1][2] = located[1:]
        self.records += 1

    def add_document(self, document: Document, size: int, chunks: int) -> None:
        self.doc_ids.append(document.doc_id)
        self._doc_hashes.append(document.doc_hash)
        self._chunks += chunks
        self._bytes += size

    def leave_out(self, item: Document | Rejected, first: First | None) -> None:
        """A rejection, a duplicate, or a document whose id has another text already."""
        if first is not None and first.doc_hash == item.doc_hash:
            self.duplicates.append(self.records - 1)
            return
        if first is not None:
            self._conflicts.append(Conflict(self.records - 1, first.source))
            item = conflicting(item, first.source)
        self.rejections.append((item.source, item.reason))

    def planned(self) -> Planned:
        unit = Unit(
            unit_id_of(self.doc_ids, self._doc_hashes, self.rejections),
            tuple(_span(*run) for run in self._runs),
            documents=len(self.doc_ids),
            chunks=self._chunks,
            bytes=self._bytes,
            rejected=len(self.rejections),
            duplicates=tuple(self.duplicates),
            conflicts=tuple(self._conflicts),
        )
        return Planned(unit, self.doc_ids, [bytes.fromhex(doc_hash) for doc_hash in self._doc_hashes])


def _batches(records: Iterator[Located]) -> Iterator[list[Located]]:
    batch, chars = [], 0
    for located in records:
        batch.append(located)
        chars += len(located.item.text) if located.item.__class__ is Document else 0
        if len(batch) >= BATCH_RECORDS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _span(file: InputFile, start: tuple[int, int], end: tuple[int, int]) -> Span:
    return Span(file, start[0], end[0] - start[0], start[1], end[1] - start[1])
