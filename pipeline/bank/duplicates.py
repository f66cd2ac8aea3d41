"""Documents that say what another says: exact copies of chunks, counted; near copies of documents, by embeddings.

A document is a near duplicate of another if each of its chunks has one in the other whose embedding's cosine is at
least the threshold. Whole documents only: one without some of its chunks could not be recalled. Of two, the longer one
is kept, else the one encoded first. One pass puts the embeddings into a file on disk; then they are compared block by
block with those of the documents that are kept. Shapes: N chunks, B of a block, M chunks kept, E embedding width.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.count import Told
from pipeline.schema import DOC_ID, EMBEDDING, ENCODED_AT, POSITION, TEXT_HASH
from pipeline.storage.index import full_disk, temporary_index

BLOCK = 2048  # chunks compared at once with as many: 16 MB of cosines, and twice 5 MB of embeddings at E = 576
THRESHOLD = 0.98


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document that could go, and the one that is kept for it."""

    doc_id: str
    kept: str
    cosine: float  # of the chunk that the kept one has least of


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was found."""

    bank: str
    version: int
    chunks: int
    exact: int  # chunks whose very text another chunk has that comes first
    documents: int
    threshold: float
    found: tuple[Duplicate, ...]  # in the order of their ids


def find_duplicates(
    bank: Bank, threshold: float = THRESHOLD, *, on_progress: Told = lambda done, of: None
) -> Duplicates:
    """Look at every chunk. `on_progress` is told of chunks compared. Time grows with the chunks times those kept.

    Raises Refusal for a threshold that is no cosine.
    """
    if not 0 < threshold <= 1:
        raise Refusal(f"threshold is {threshold}; it must be above 0 and at most 1")
    chunks = bank.count()
    with tempfile.TemporaryFile() as file:
        values_NE, documents = _read(bank, file, chunks) if chunks else (np.zeros((0, 1)), [])
        found = _compare(values_NE, documents, threshold, on_progress)
    return Duplicates(
        bank=bank.folder.uri,
        version=bank.version,
        chunks=chunks,
        exact=chunks - _distinct_texts(bank),
        documents=len(documents),
        threshold=threshold,
        found=tuple(sorted(found, key=lambda each: each.doc_id)),
    )


@dataclass(slots=True)
class _Document:
    """`rows`: its chunks' places among the embeddings."""

    doc_id: str
    rows: list[int]
    made: int = 0


def _distinct_texts(bank: Bank) -> int:
    index = temporary_index("CREATE TABLE texts (text_hash BLOB PRIMARY KEY) WITHOUT ROWID")
    with full_disk():
        for batch in bank.rows([TEXT_HASH], batch_rows=65_536):
            hashes = ((bytes.fromhex(each),) for each in batch.column(0).to_pylist())
            index.executemany("INSERT OR IGNORE INTO texts VALUES (?)", hashes)
        return index.execute("SELECT count(*) FROM texts").fetchone()[0]


def _read(bank: Bank, file, chunks: int) -> tuple[np.ndarray, list[_Document]]:
    """The embeddings, in the file; and the documents, those first that would be kept."""
    width, found = bank.identity.embedding_width, dict[str, _Document]()
    values_NE = np.memmap(file, np.float32, "w+", shape=(chunks, width))
    place = 0
    for batch in bank.rows([DOC_ID, POSITION, ENCODED_AT, EMBEDDING]):
        doc_ids, positions, made, embeddings = batch.columns
        values_NE[place : place + batch.num_rows] = embeddings.flatten().to_numpy().reshape(-1, width)
        for row in zip(doc_ids.to_pylist(), positions.to_pylist(), made.cast("int64").to_pylist(), strict=True):
            document = found.setdefault(row[0], _Document(row[0], []))
            document.rows.append(place)
            document.made = row[2] if row[1] == 0 else document.made
            place += 1
    return values_NE, sorted(found.values(), key=lambda each: (-len(each.rows), each.made, each.doc_id))


def _compare(
    values_NE: np.ndarray, documents: Sequence[_Document], threshold: float, on_progress: Told
) -> list[Duplicate]:
    """Block by block, in the order in which documents are kept: with those kept before, then within the block."""
    kept: list[_Document] = []
    found: list[Duplicate] = []
    done = 0
    for block in _blocks(documents):
        values_BE = values_NE[_rows(block)]
        best = _best_before(values_NE, values_BE, block, kept, threshold)
        within = _least(values_BE @ values_BE.T, block, block)
        staying = list[int]()
        for place, document in enumerate(block):
            near = [other for other in staying if within[place, other] >= threshold]
            if place in best:
                found.append(Duplicate(document.doc_id, *best[place]))
            elif near:
                found.append(Duplicate(document.doc_id, block[near[0]].doc_id, float(within[place, near[0]])))
            else:
                staying.append(place)
        kept += [block[place] for place in staying]
        done += len(values_BE)
        on_progress(done, len(values_NE))
    return found


def _best_before(
    values_NE: np.ndarray, values_BE: np.ndarray, block: list[_Document], kept: list[_Document], threshold: float
) -> dict[int, tuple[str, float]]:
    """Of each document in the block that a kept one before covers: that one's id, and the cosine."""
    best: dict[int, tuple[str, float]] = {}
    for others in _blocks(kept):
        least = _least(values_BE @ values_NE[_rows(others)].T, block, others)
        places = np.argmax(least, axis=1)
        for place, other in enumerate(places):
            cosine = float(least[place, other])
            if cosine >= threshold and cosine > best.get(place, ("", 0.0))[1]:
                best[place] = others[other].doc_id, cosine
    return best


def _least(cosines_BM: np.ndarray, block: list[_Document], others: list[_Document]) -> np.ndarray:
    """For each document of the block and each of the others: how near the other comes to the chunk that it is least
    like."""
    nearest = np.maximum.reduceat(cosines_BM, _starts(others), axis=1)
    return np.minimum.reduceat(nearest, _starts(block), axis=0)


def _starts(documents: list[_Document]) -> list[int]:
    return [0, *itertools.accumulate(len(each.rows) for each in documents[:-1])]


def _rows(documents: list[_Document]) -> list[int]:
    return [row for each in documents for row in each.rows]


def _blocks(documents: Sequence[_Document]) -> Iterator[list[_Document]]:
    """Documents of about BLOCK chunks together; one that is longer is a block of its own."""
    waiting, load = list[_Document](), 0
    for each in documents:
        if waiting and load + len(each.rows) > BLOCK:
            yield waiting
            waiting, load = [], 0
        waiting.append(each)
        load += len(each.rows)
    if waiting:
        yield waiting
