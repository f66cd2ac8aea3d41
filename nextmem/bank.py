"""A memory bank from Python: search it, recall its texts, read its latents, look after it, hand it on.

Shapes: N chunks, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from model.refusal import Refusal
from nextmem import changing
from nextmem.filters import Filter, expression
from nextmem.forgetting import forget
from nextmem.hits import Hit, hits_of, require_exact
from nextmem.latents import Latents, first_of, latents_of
from nextmem.reading import reader
from nextmem.upkeep import index, refine, tend, verify
from nextmem.versions import dedupe, diff, history, merge, migrate, restore
from pipeline.bank.bank import Bank as Table
from pipeline.bank.count import Count, Told
from pipeline.bank.info import BankInfo, info
from pipeline.bank.lookup import by_chunk_id, by_doc_id
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.status import Status, status
from pipeline.export.export import Exported, export

if TYPE_CHECKING:
    from model.codec import Codec as ModelCodec
    from nextmem.codec import Codec
    from pipeline.bank.identity import CodecIdentity
    from pipeline.bank.recall import Recalled


def open(
    bank: str | os.PathLike[str],
    *,
    version: int | None = None,
    time: datetime.datetime | str | None = None,
    backbone: str | None = None,
) -> Bank:
    """The memory bank in a folder or at `s3://bucket/key`, at its newest version, a given one, or as it was at a time.

    `time`: a datetime, or ISO 8601 text; UTC where it names no zone. `backbone`: a folder with the backbone's weights,
    where they do not lie in the usual place. Nothing is loaded before it is needed. Raises FileNotFoundError where
    there is no bank, or its version was cleaned; ValueError for a version or a time that lies ahead.
    """
    return Bank(open_bank(os.fspath(bank), version=version, time=time), backbone=backbone)


class Bank:
    """One version of a memory bank. Made by `nextmem.open`; a context manager closes it.

    The codec is loaded at the first call that needs it and kept. Several threads may use one Bank: those that need the
    codec wait for one another.
    """

    def __init__(self, table: Table, *, backbone: str | None = None):
        self._table, self._backbone = table, backbone
        self._lock = threading.RLock()
        self._codec: ModelCodec | None = None
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

    @property
    def schema(self) -> pa.Schema:
        """The columns of a row: NextMem's own (pipeline/schema.py), then those carried from the corpus."""
        return self._table.schema

    @property
    def identity(self) -> CodecIdentity:
        """Which codec made the rows, and its sizes: `num_latents` K, `hidden_width` D, `embedding_width` E."""
        return self._table.identity

    def reload(self) -> int:
        """Stand on the newest version and return its number."""
        with self._lock:
            self._open().reload()
            return self.version

    def search(
        self,
        query: str,
        k: int = 5,
        *,
        by: str = "latents",
        weight: float | None = None,
        filter: Filter | None = None,
        embedding: np.ndarray | None = None,
        say: Callable[[str], object] = lambda line: None,
    ) -> list[Hit]:
        """The k best chunks, best first; fewer where fewer are found.

        `by` is latents (cosine of embeddings), words (BM25, for a bank with words or texts) or both; `weight` is then
        the latents' share, 0 to 1, and None what the codec says. `filter` keeps to rows it is true of: a text such as
        "year >= 2020 and lang in (en, de)", a dict of column to value or list of values, or a pyarrow expression.
        `embedding`: the query's [E], where it is known already. `say` gets a line on what limits the search. Raises
        ValueError for an empty query, or a filter that does not parse or fit the columns.
        """
        from pipeline.bank.find import find

        if not query.strip() and (embedding is None or by != "latents"):
            raise Refusal("the query is empty: give a few words to search for")
        table = self._open()
        rows = expression(filter, table.schema)
        embed = self._embedding if embedding is None else lambda _: embedding
        share = self._latents_weight if weight is None else lambda: weight
        return hits_of(self, find(table, query, k, by=by, embed=embed, weight=share, filter=rows, say=say))

    def recall(self, *, chunk_id: str | None = None, doc_id: str | None = None) -> str:
        """The exact text of one chunk, or of one whole document.

        Raises NotInBank for an id the bank does not hold and InexactRecall, which names the row, where the text is not
        the one that was encoded.
        """
        if (chunk_id is None) == (doc_id is None):
            raise TypeError("give one of chunk_id and doc_id")
        rows = self.recalled(chunk_ids=None if chunk_id is None else [chunk_id], doc_id=doc_id)
        return "".join(require_exact(row).text for row in rows)

    def recalled(
        self,
        *,
        chunk_ids: Sequence[str] | None = None,
        doc_id: str | None = None,
        filter: Filter | None = None,
        patched: bool = True,
        k: int | None = None,
        batch_size: int | None = None,
        on_progress: Told = lambda done, of: None,
    ) -> Iterator[Recalled]:
        """Rows with their texts, streaming: those of the ids, of one document, or all that `filter` is true of.

        Each says itself whether it is `exact`; nothing is raised of one that is not. `patched=False` gives what the
        latents alone decode to, or the first `k` of them. `batch_size`: chunks decoded at once. `on_progress` is told
        how many rows are decoded, and of how many (None with a filter). Raises NotInBank at once, before the first row.
        """
        from pipeline.bank.recall import COLUMNS, recall

        if sum(given is not None for given in (chunk_ids, doc_id, filter)) > 1:
            raise TypeError("give one of chunk_ids, doc_id and filter, or none for all rows")
        table = self._open()
        if k is not None and patched:
            raise Refusal("k needs patched=False: a patch says what all the latents of a row lack, not the first few")
        first_of(k, table.identity.num_latents)
        if chunk_ids is None and doc_id is None:
            rows, of = table.rows(COLUMNS, expression(filter, table.schema)), table.count() if filter is None else None
        else:
            found = by_chunk_id(table, _ids(chunk_ids or ())) if doc_id is None else by_doc_id(table, doc_id)
            rows, of = iter(found.to_batches()), found.num_rows
        count = Count(on_progress, of)
        return self._in_turn(
            recall(rows, self._loaded(), patched=patched, k=k, batch_size=batch_size, on_decoded=count)
        )

    def latents(self, chunk_ids: Sequence[str], *, k: int | None = None) -> Latents:
        """The stored latents of these chunks, or the first k of each, dequantised: float32 [N, K, D].

        Raises NotInBank, and Refusal for more than a row stores.
        """
        with self._lock:
            rows = by_chunk_id(self._open(), _ids(chunk_ids))
            return latents_of(rows, self._loaded(), k)

    def info(self) -> BankInfo:
        """Documents, chunks, codec, sizes, fidelity and versions."""
        return info(self._open())

    def status(self) -> Status:
        """The jobs that are at work on the bank, or how the last encode ended; when the last commit was."""
        return status(self._open())

    verify, refine, tend, index = verify, refine, tend, index  # nextmem/upkeep.py
    remember = changing.remember
    remember_files = changing.remember_files
    update = changing.update
    edit = changing.edit
    edit_everywhere = changing.edit_everywhere
    forget = forget  # nextmem/forgetting.py
    history, diff, restore = history, diff, restore  # nextmem/versions.py
    merge, dedupe, migrate = merge, dedupe, migrate
    reader = reader  # nextmem/reading.py

    def to_arrow(self, columns: Sequence[str] | None = None, *, filter: Filter | None = None) -> pa.Table:
        """The live rows, all columns or those named, in memory. At D = 4096 a row is 36 KB: name columns."""
        table = self._open()
        wanted = None if columns is None else list(columns)
        rows = table.rows(wanted, expression(filter, table.schema))
        schema = table.schema if wanted is None else pa.schema([table.schema.field(name) for name in wanted])
        return pa.Table.from_batches(rows, schema)

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        to: str = "parquet",
        with_: Sequence[str] | None = None,
        filter: Filter | None = None,
        on_progress: Told = lambda done, of: None,
    ) -> Exported:
        """Write rows to a new folder for others to open, all of it or nothing: docs/export.md says how they do.

        `to`: parquet, hf, lance, faiss or duckdb. `with_` names what comes beside ids, places, hashes and metadata:
        "text", recalled exactly; "latents", dequantised; "codes", as the bank holds latents; "embedding". None is a row
        as the bank holds it. Raises FileExistsError where something lies at `out`, InexactRecall for a row whose text
        was asked for and is not exact, and RuntimeError where a package is not installed.
        """
        if isinstance(with_, str):
            raise TypeError(f"give a list of parts, such as [{with_!r}]")
        with self._lock:
            table = self._open()
            count = Count(on_progress, None if filter else table.count())
            rows = expression(filter, table.schema)
            return export(table, out, to, parts=with_, filter=rows, load_codec=self._loaded, on_rows=count)

    def codec(self) -> Codec:
        """The bank's own codec, computed as its rows were verified. It takes turns with this bank's calls."""
        from nextmem.codec import Codec

        return Codec(self._loaded(), self._lock)

    def _embedding(self, query: str) -> np.ndarray:
        from pipeline.bank.search import embed_query

        with self._lock:
            return embed_query(self._loaded(), query)

    def _latents_weight(self) -> float:
        return self._loaded().config.searching_weight()

    def _loaded(self) -> ModelCodec:
        with self._lock:
            table = self._open()
            if self._codec is None:
                self._codec = load_bank_codec(table, backbone=self._backbone)
            return self._codec

    def _in_turn(self, rows: Iterator[Recalled]) -> Iterator[Recalled]:
        """The same rows; other threads have the codec between them."""
        while True:
            with self._lock:
                self._open()
                row = next(rows, None)
            if row is None:
                return
            yield row

    def _open(self) -> Table:
        if self._closed:
            raise Refusal(f"the bank {self.path} is closed: open it again with nextmem.open")
        return self._table


def _ids(chunk_ids: Sequence[str]) -> list[str]:
    if isinstance(chunk_ids, str):
        raise TypeError("give a list of chunk ids, not one id")
    return list(chunk_ids)
