"""Build the index of a bank's embeddings: sort the rows into lists of near ones, and measure what reading a few finds.

FAISS's inverted lists with whole vectors: as large on disk as the embeddings, exact within the lists that are read.
How many lists a search reads is what it takes to find as many of the true nearest as was asked for, measured on mixes
of rows. Shapes: N rows, S sampled rows, A mixes asked as queries, E embedding width.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.count import Count, Told
from pipeline.bank.index import PLACES, VECTORS, About, faiss, files_hash, folder_of, write_about
from pipeline.bank.search import BATCH_ROWS, PLACE, embeddings
from pipeline.schema import EMBEDDING

ASKED, NEAREST = 200, 10  # mixes of rows asked as queries, and how many of their neighbours are looked for
LISTED = 40  # rows a list that it is learnt from; FAISS wants 39
FEW = 2000  # rows: fewer are one list, which is a search of every row


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was built."""

    bank: str
    version: int
    rows: int
    lists: int
    probes: int
    recall: float
    asked: int
    bytes: int


def build_index(bank: Bank, *, recall: float = 0.95, on_progress: Told = lambda done, of: None) -> Indexed:
    """Index this version's embeddings, in the place of an older index. All of it or nothing.

    `recall`: the share of the true ten nearest that a search is to find. Memory: the embeddings, and an eighth of them.
    Raises Refusal for a bank on an object store and for an empty one, Unavailable without FAISS.
    """
    if not bank.folder.is_local:
        raise Refusal(f"{bank.folder.uri}: an index is mapped into memory, so the bank must lie in a local folder")
    if not 0 < recall <= 1:
        raise Refusal(f"recall is {recall}; it must be above 0 and at most 1")
    rows = bank.count()
    if not rows:
        raise Refusal(f"{bank.folder.uri} is empty: `nextmem encode` fills it")
    place = folder_of(bank)
    place.parent.mkdir(exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
    try:
        about = _build(bank, rows, recall, draft, on_progress)
        write_about(about, draft)
        draft.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(draft, place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _remove_others(place)
    size = sum(about.sizes.values())
    return Indexed(bank.folder.uri, about.version, rows, about.lists, about.probes, about.recall, about.asked, size)


def _build(bank: Bank, rows: int, recall: float, draft: Path, tell: Told) -> About:
    library, width = faiss(), bank.identity.embedding_width
    lists = 1 if rows < FEW else min(round(4 * math.sqrt(rows)), rows // LISTED)
    vectors = library.index_factory(width, f"IVF{lists},Flat", library.METRIC_INNER_PRODUCT)
    count = Count(tell, 2 * rows)
    sample_SE = _sampled(bank, rows, min(rows, LISTED * lists), count)
    vectors.train(sample_SE)
    truth = _Nearest(_mixes(sample_SE))
    places = []
    for batch, rows_NE in _batches(bank, count):
        truth.look(rows_NE, vectors.ntotal)
        vectors.add(rows_NE)
        places.append(pa.table(batch.select(PLACE)))
    probes, found = _probes(vectors, truth, lists, recall)
    library.write_index(vectors, str(draft / VECTORS))
    with pa.OSFile(str(draft / PLACES), "wb") as sink, pa.ipc.new_file(sink, places[0].schema) as writer:
        for table in places:
            writer.write_table(table)
    sizes = {name: (draft / name).stat().st_size for name in (VECTORS, PLACES)}
    table = bank.table.metadata().id
    return About(table, bank.version, files_hash(bank), rows, lists, probes, found, len(truth.asked_AE), sizes)


def _mixes(sample_SE: np.ndarray) -> np.ndarray:
    """float32 [A, E]: sums of two far rows, of length 1. A row asked for itself would be found too easily."""
    some_AE = sample_SE[:: max(1, len(sample_SE) // ASKED)][:ASKED]
    mixed_AE = some_AE + np.roll(some_AE, len(some_AE) // 2, axis=0)
    return mixed_AE / np.maximum(np.linalg.norm(mixed_AE, axis=1, keepdims=True), 1e-9)


class _Nearest:
    """The true nearest of what is asked, kept up while all rows pass by."""

    def __init__(self, asked_AE: np.ndarray):
        self.asked_AE = asked_AE
        self.scores = np.full((len(asked_AE), NEAREST), -np.inf, np.float32)
        self.rows = np.full((len(asked_AE), NEAREST), -1)

    def look(self, rows_NE: np.ndarray, first: int) -> None:
        scores = np.concatenate([self.scores, self.asked_AE @ rows_NE.T], axis=1)
        numbers = np.broadcast_to(first + np.arange(len(rows_NE)), (len(self.asked_AE), len(rows_NE)))
        rows = np.concatenate([self.rows, numbers], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
        self.scores, self.rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)

    def found(self, scores: np.ndarray) -> float:
        """Share of the true nearest that a search found; rows as near as the last of them count, whichever they are."""
        there = min(NEAREST, int((self.rows[0] >= 0).sum()))
        bar = self.scores[:, there - 1 : there] - 1e-5
        return float((scores[:, :there] >= bar).mean())


def _probes(vectors, truth: _Nearest, lists: int, recall: float) -> tuple[int, float]:
    """The fewest lists, doubled from one, that find enough; all of them where nothing less does."""
    probes = 1
    while True:
        vectors.nprobe = probes
        found = truth.found(vectors.search(truth.asked_AE, NEAREST)[0])
        if found >= recall or probes >= lists:
            return probes, found
        probes = min(2 * probes, lists)


def _sampled(bank: Bank, rows: int, wanted: int, count: Count) -> np.ndarray:
    """float32 [S, E]: rows at even distances."""
    chosen = np.linspace(0, rows - 1, wanted).astype(np.int64)
    first, found = 0, []
    for batch, rows_NE in _batches(bank, count):
        here = chosen[(chosen >= first) & (chosen < first + batch.num_rows)] - first
        found.append(rows_NE[here])
        first += batch.num_rows
    return np.concatenate(found)


def _batches(bank: Bank, count: Count) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Rows with PLACE, and their embeddings, in one order each time."""
    for batch in bank.rows([*PLACE, EMBEDDING], batch_rows=BATCH_ROWS):
        yield batch, embeddings(bank, batch)
        count(batch.num_rows)


def _remove_others(place: Path) -> None:
    for other in place.parent.iterdir():
        if other != place and not other.name.startswith(".draft-"):
            shutil.rmtree(other, ignore_errors=True)
