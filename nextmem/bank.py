"""A memory bank from Python: search it, recall its texts, read its latents, check it, hand it on.

Shapes: N chunks, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.bank.bank import Bank as Table
from pipeline.bank.export import Exported, export
from pipeline.bank.info import BankInfo, info
from pipeline.bank.lookup import by_chunk_id, by_doc_id
from pipeline.bank.opened import load_bank_codec, open_bank

if TYPE_CHECKING:
    import torch

    from model.codec import Codec
    from pipeline.bank.recall import Recalled
    from pipeline.bank.search import Hit as Nearest
    from pipeline.bank.verify import Verdict

Filter = pc.Expression | Mapping[str, object]


def open(bank: str | os.PathLike[str], *, version: int | None = None, backbone: str | None = None) -> Bank:
    """The memory bank in a folder or at `s3://bucket/key`, at its newest version or a given one.

    `backbone`: a folder with the backbone's weights, where they do not lie in the usual place. Nothing is loaded before
    it is needed. Raises FileNotFoundError where there is no bank.
    """
    return Bank(open_bank(os.fspath(bank), version=version), backbone=backbone)


class Bank:
    """One version of a memory bank. Made by `nextmem.open`; a context manager closes it.

    The codec is loaded at the first call that needs it and kept. Several threads may use one Bank: those that need the
    codec wait for one another.
    """

    def __init__(self, table: Table, *, backbone: str | None = None):
        self._table, self._backbone = table, backbone
        self._lock = threading.RLock()
        self._codec: Codec | None = None
        self._closed = False

    def __enter__(self) -> Bank:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"nextmem.open({self.path!r}, version={self.version})"

    def __len__(self) -> int:
        """Chunks, from the log alone."""
        return self._open().count()

    def close(self) -> None:
        """Let the codec's memory go. A closed bank refuses every call with ValueError."""
        with self._lock:
            self._codec, self._closed = None, True

    @property
    def path(self) -> str:
        """Where the bank is: an absolute folder or a URI."""
        return self._table.folder.uri

    @property
    def version(self) -> int:
        """The version this object stands on. Commits that come later are seen after `reload`."""
        return self._table.version

    def reload(self) -> int:
        """Stand on the newest version and return its number."""
        with self._lock:
            self._open().reload()
            return self.version

    def search(self, query: str, k: int = 5, *, filter: Filter | None = None) -> list[Hit]:
        """The k chunks nearest to the query by cosine, best first; fewer where the bank holds fewer.

        `filter` keeps to rows it is true of: a pyarrow expression, or a dict of column to value or list of values.
        Raises ValueError for an empty query.
        """
        from pipeline.bank.search import embed_query, nearest

        with self._lock:
            table, codec = self._open(), self.codec()
            found = nearest(table, embed_query(codec, query), k, filter=expression(table, filter))
        texts = _Texts(self, tuple(hit.chunk_id for hit in found))
        return [Hit.of(hit, texts) for hit in found]

    def recall(self, *, chunk_id: str | None = None, doc_id: str | None = None) -> str:
        """The exact text of one chunk, or of one whole document.

        Raises NotInBank for an id the bank does not hold and InexactRecall, which names the row, where the text is not
        the one that was encoded.
        """
        if (chunk_id is None) == (doc_id is None):
            raise TypeError("give one of chunk_id and doc_id")
        return "".join(
            require_exact(row).text for row in self.recalled(chunk_ids=chunk_id and [chunk_id], doc_id=doc_id)
        )

    def recalled(
        self,
        *,
        chunk_ids: Sequence[str] | None = None,
        doc_id: str | None = None,
        filter: Filter | None = None,
        patched: bool = True,
        batch_size: int | None = None,
        on_decoded: Callable[[int], object] = lambda rows: None,
    ) -> Iterator[Recalled]:
        """Rows with their texts, streaming: those of the ids, of one document, or all that `filter` is true of.

        Each says itself whether it is `exact`; nothing is raised of one that is not. `patched=False` gives what the
        latents alone decode to. `on_decoded` is told of so many rows more as they are decoded.
        """
        from pipeline.bank.recall import COLUMNS, recall

        table = self._open()
        if chunk_ids is not None:
            rows: Iterator[pa.RecordBatch] = iter(by_chunk_id(table, chunk_ids).to_batches())
        elif doc_id is not None:
            rows = iter(by_doc_id(table, doc_id).to_batches())
        else:
            rows = table.rows(COLUMNS, expression(table, filter))
        found = recall(rows, self.codec(), patched=patched, batch_size=batch_size, on_decoded=on_decoded)
        while True:
            with self._lock:
                self._open()
                if (row := next(found, None)) is None:
                    return
            yield row

    def latents(self, chunk_ids: Sequence[str]) -> Latents:
        """The stored latents of these chunks, dequantised. Raises NotInBank."""
        with self._lock:
            rows = by_chunk_id(self._open(), chunk_ids)
            return Latents.of(rows, self.codec())

    def info(self) -> BankInfo:
        """Documents, chunks, codec, sizes, fidelity and versions."""
        return info(self._open())

    def verify(
        self,
        *,
        sample: int | None = None,
        repair: bool = False,
        on_decoded: Callable[[int], object] = lambda rows: None,
    ) -> Verdict:
        """Check counts, hashes and duplicates, and decode all rows or `sample` of them.

        `repair` takes files that cannot be read out of the bank; the next encode makes their rows again.
        """
        from pipeline.bank.verify import verify

        with self._lock:
            return verify(self._open(), self.codec, sample=sample, repair=repair, on_decoded=on_decoded)

    def to_arrow(self, columns: Sequence[str] | None = None, *, filter: Filter | None = None) -> pa.Table:
        """The live rows, all columns or those named, in memory. At D = 4096 a row is 36 KB: name columns."""
        table = self._open()
        wanted = list(columns) if columns is not None else None
        schema = table.schema if wanted is None else pa.schema([table.schema.field(name) for name in wanted])
        return pa.Table.from_batches(table.rows(wanted, expression(table, filter)), schema)

    def export(self, out: str | os.PathLike[str]) -> Exported:
        """Write plain Parquet of the live rows to a new folder: all of it or nothing."""
        return export(self._open(), out)

    def codec(self) -> Codec:
        """The bank's own codec, as its rows were verified (model/codec.py). Loaded once; hold no other thread on it."""
        with self._lock:
            table = self._open()
            if self._codec is None:
                self._codec = load_bank_codec(table, backbone=self._backbone)
            return self._codec

    def _open(self) -> Table:
        if self._closed:
            raise ValueError(f"the bank {self.path} is closed: open it again with nextmem.open")
        return self._table


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found. `text` is recalled when it is first asked for, with the search's other hits."""

    chunk_id: str
    doc_id: str
    position: int  # 0-based place in the document
    source: str
    char_start: int  # code points, half open
    char_end: int
    score: float  # cosine, -1 to 1
    _texts: _Texts = field(repr=False, compare=False)

    @classmethod
    def of(cls, found: Nearest, texts: _Texts) -> Hit:
        """A hit of pipeline/bank/search.py that can recall its text."""
        names = (name for name in cls.__dataclass_fields__ if name != "_texts")
        return cls(**{name: getattr(found, name) for name in names}, _texts=texts)

    @property
    def text(self) -> str:
        """The chunk's exact text. Raises InexactRecall, never anything silent."""
        return require_exact(self.recalled).text

    @property
    def recalled(self) -> Recalled:
        """The text with what is known of it: whether it is exact, and what share the latents carried."""
        return self._texts.row(self.chunk_id)


class _Texts:
    """The rows of one search, recalled together when the first of them is asked for."""

    def __init__(self, bank: Bank, chunk_ids: tuple[str, ...]):
        self._bank, self._ids = bank, chunk_ids
        self._rows: dict[str, Recalled] | None = None

    def row(self, chunk_id: str) -> Recalled:
        if self._rows is None:
            self._rows = {row.chunk_id: row for row in self._bank.recalled(chunk_ids=self._ids)}
        return self._rows[chunk_id]


@dataclass(frozen=True, slots=True)
class Latents:
    """What a model reads in place of the chunks' texts."""

    chunk_ids: tuple[str, ...]
    values: torch.Tensor  # float32 [N, K, D], dequantised
    _codec: Codec = field(repr=False, compare=False)

    @classmethod
    def of(cls, rows: pa.Table, codec: Codec) -> Latents:
        """Of memory rows and the codec that made them."""
        from pipeline.bank.recall import stored_latents

        return cls(tuple(rows["chunk_id"].to_pylist()), stored_latents(rows, codec), codec)

    def as_embeds(self) -> torch.Tensor:
        """[N, K, D] in the backbone's dtype, on its device: rows for `inputs_embeds` of the same backbone."""
        return self._codec.as_embeds(self.values)


def require_exact(row: Recalled) -> Recalled:
    """The row itself. Raises InexactRecall where its text is not the one that was encoded."""
    from pipeline.bank.recall import InexactRecall

    if not row.exact:
        raise InexactRecall(row)
    return row


def expression(table: Table, filter: Filter | None) -> pc.Expression | None:
    """A filter as pyarrow knows it. ValueError for a column that the bank does not have."""
    if filter is None or isinstance(filter, pc.Expression):
        return filter
    missing = [name for name in filter if name not in table.schema.names]
    if missing:
        raise ValueError(f"{table.folder.uri} has no column {missing[0]!r}; it has {', '.join(table.schema.names)}")
    parts = [_is(name, value) for name, value in filter.items()]
    found = parts[0] if parts else None
    for part in parts[1:]:
        found = found & part
    return found


def _is(name: str, value: object) -> pc.Expression:
    column = pc.field(name)
    if value is None:
        return column.is_null()
    if isinstance(value, builtins.list | tuple | set | frozenset):
        return column.isin(builtins.list(value))
    return column == value
