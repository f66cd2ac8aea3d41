"""What is wrong with a bank, as far as no model is needed to see it; pipeline/bank/verify.py decodes on top of it.

Every live file is opened, its checksums read and its rows held against the bank's schema and codec. What concerns
several rows (a chunk twice, a gap in a document) is sorted by SQLite in a temporary file, so memory does not grow with
the bank.
"""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.rate import row_sizes
from pipeline.bank.bank import BATCH_ROWS, Bank
from pipeline.bank.unit_file import as_schema
from pipeline.schema import (
    CHAR_END,
    CHAR_START,
    CHUNK_ID,
    CODES,
    DIGITS,
    DOC_HASH,
    DOC_ID,
    EMBEDDING,
    FIDELITY,
    NUM_TOKENS,
    POSITION,
    SCALES,
    TEXT_HASH,
    UNIT,
)

NORM_SLACK = 1e-3  # float32 rounds a unit length by less

_ORDERED = [DOC_ID, POSITION, CHUNK_ID, CHAR_START, CHAR_END, DOC_HASH, UNIT]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it must be."""

    where: str  # a file, a chunk or a document
    what: str
    is_file: bool = False  # that is gone, torn, or not what the log says

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def first_problems(bank: Bank, limit: int = 1000) -> list[Problem]:
    """The first `limit` problems, files before rows before documents; an empty list is a whole bank."""
    return list(itertools.islice(problems(bank), limit))


def problems(bank: Bank) -> Iterator[Problem]:
    """Every problem, streaming."""
    with tempfile.TemporaryDirectory() as folder, _order_book(Path(folder, "rows.sqlite")) as book:
        for name, expected in _expected_rows(bank):
            yield from _file_problems(bank, name, expected, book)
        yield from _doubles(book)
        yield from _unforgotten(bank, book)
        yield from _gaps(book)


def _order_book(path: Path) -> sqlite3.Connection:
    book = sqlite3.connect(path, isolation_level=None)
    book.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;")
    book.execute(f"CREATE TABLE rows ({', '.join(_ORDERED)})")
    return book


def _expected_rows(bank: Bank) -> list[tuple[str, int]]:
    log = pa.table(bank.table.get_add_actions(flatten=True)).select(["path", "num_records"])
    return sorted(zip(*(column.to_pylist() for column in log.columns), strict=True))


def _file_problems(bank: Bank, name: str, expected: int | None, book: sqlite3.Connection) -> Iterator[Problem]:
    try:
        with bank.folder.filesystem.open_input_file(name) as source:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            if expected not in (None, file.metadata.num_rows):
                what = f"holds {file.metadata.num_rows} rows, the log says {expected}"
                yield Problem(name, what, is_file=True)
            for batch in file.iter_batches(BATCH_ROWS):
                rows = as_schema(batch, bank.schema, name)
                yield from _row_problems(bank, rows)
                _note(book, rows)
    except (OSError, ValueError, pa.ArrowException) as error:
        yield Problem(name, f"cannot be read: {error}", is_file=True)


def _note(book: sqlite3.Connection, rows: pa.RecordBatch) -> None:
    values = zip(*(rows.column(name).to_pylist() for name in _ORDERED), strict=True)
    book.execute("BEGIN")
    book.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * len(_ORDERED))})", values)
    book.execute("COMMIT")


def _row_problems(bank: Bank, rows: pa.RecordBatch) -> Iterator[Problem]:
    """Hashes of the right length, embeddings and codes of the codec's width, and numbers that are numbers."""
    for name in (CHUNK_ID, TEXT_HASH, DOC_HASH):
        right = pc.match_substring_regex(rows.column(name), f"^[0-9a-f]{{{DIGITS}}}$")
        yield from _wrong(rows, right, name, f"is not {DIGITS} hex digits")
    width = bank.identity.embedding_width
    right = pc.equal(pc.list_value_length(rows.column(EMBEDDING)), width)
    yield from _wrong(rows, right, EMBEDDING, f"does not have {width} values")
    if bank.identity.quantiser.startswith("nf"):
        size, _ = row_sizes(bank.identity.quantiser, bank.identity.num_latents, bank.identity.hidden_width)
        yield from _wrong(rows, pc.equal(pc.binary_length(rows.column(CODES)), size), CODES, f"is not {size} bytes")
        yield from _wrong(rows, _finite_scales(rows.column(SCALES)), SCALES, "are not finite")
    yield from _wrong(rows, _unit_length(rows, width), EMBEDDING, "is not finite and of length 1")
    share = rows.column(FIDELITY)
    within = pc.and_(pc.greater_equal(share, 0.0), pc.less_equal(share, 1.0))  # false for NaN
    yield from _wrong(rows, pc.fill_null(within, True), FIDELITY, "is not between 0 and 1")


def _finite_scales(scales: pa.BinaryArray) -> pa.BooleanArray:
    """Scales are float16; a length that is none of theirs is not finite either."""
    values = (each.as_py() for each in scales)
    return pa.array([len(v) % 2 == 0 and bool(np.isfinite(np.frombuffer(v, np.float16)).all()) for v in values])


def _unit_length(rows: pa.RecordBatch, width: int) -> pa.BooleanArray:
    """A chunk without tokens has an embedding of zeros; one of another width has been named already."""
    fits = pc.equal(pc.list_value_length(rows.column(EMBEDDING)), width)
    values_NE = rows.column(EMBEDDING).filter(fits).flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    norms_N = np.linalg.norm(values_NE.astype(np.float64), axis=1)
    blank_N = (norms_N == 0) & (rows.column(NUM_TOKENS).filter(fits).to_numpy() == 0)
    right = np.ones(rows.num_rows, dtype=bool)
    right[fits.to_numpy(zero_copy_only=False)] = (np.abs(norms_N - 1) < NORM_SLACK) | blank_N  # false for NaN
    return pa.array(right)


def _wrong(rows: pa.RecordBatch, right: pa.BooleanArray, column: str, what: str) -> Iterator[Problem]:
    for row in rows.select([CHUNK_ID, DOC_ID, POSITION]).filter(pc.invert(right)).to_pylist():
        where = f"chunk {row[CHUNK_ID]} ({row[DOC_ID]!r}, position {row[POSITION]})"
        yield Problem(where, f"{column} {what}")


def _doubles(book: sqlite3.Connection) -> Iterator[Problem]:
    twice = f"SELECT {CHUNK_ID}, count(*), min({DOC_ID}) FROM rows GROUP BY {CHUNK_ID} HAVING count(*) > 1"
    for chunk_id, times, doc_id in book.execute(twice):
        yield Problem(f"chunk {chunk_id} ({doc_id!r})", f"is there {times} times")


def _unforgotten(bank: Bank, book: sqlite3.Connection) -> Iterator[Problem]:
    """Documents that are there although the bank was told to forget them."""
    if not len(forgotten := bank.forgotten()):
        return
    ids = (doc_id for (doc_id,) in book.execute(f"SELECT DISTINCT {DOC_ID} FROM rows"))
    while some := list(itertools.islice(ids, BATCH_ROWS)):
        for doc_id, version in forgotten.among(some).items():
            yield Problem(f"document {doc_id!r}", f"is there, and was forgotten in version {version}")


def _gaps(book: sqlite3.Connection) -> Iterator[Problem]:
    """Each document's chunks count from 0, tile its characters from 0, and agree on the document's hash and unit."""
    rows = book.execute(f"SELECT {', '.join(_ORDERED)} FROM rows ORDER BY {DOC_ID}, {POSITION}, {CHUNK_ID}")
    for doc_id, chunks in itertools.groupby(rows, key=lambda row: row[0]):
        what = _first_gap(chunks)
        if what:
            yield Problem(f"document {doc_id!r}", what)


def _first_gap(chunks: Iterator[tuple]) -> str | None:
    document, end = None, 0
    for expected, (_, position, chunk_id, start, stop, *same) in enumerate(chunks):
        document = document or same
        if position != expected:
            return f"position {expected} should come next, and chunk {chunk_id} has position {position}"
        if start != end or stop < start:
            return f"chunk {chunk_id} spans characters {start} to {stop}, and {end} should come next"
        if same != document:
            return f"chunk {chunk_id} is of (doc_hash, unit) {tuple(same)}, the first chunk of {tuple(document)}"
        end = stop
    return None
