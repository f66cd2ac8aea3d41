"""Best chunks by BM25 over their stems: one pass over a small column, no index to build or keep.

Shapes: N rows of a batch, S their stems one after another, M rows that hold a word of the query, Q the query's stems.
The score is Lucene's BM25, as bm25s computes it; its statistics are those of the rows that are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.search import BATCH_ROWS, PLACE, Hit, Rank, hits, order
from pipeline.schema import STEMS, TEXT
from pipeline.stems import STEM, hashes, pack, words

K1, B = 1.5, 0.75  # BM25's usual
COMMON = 0.5  # a word in more than this share of the chunks tells little of any of them


@dataclass(frozen=True, slots=True)
class Matches:
    """Rows that hold a word of the query, and the statistics of all that were looked at."""

    places: pa.Table  # [M] rows with PLACE
    counts_MQ: np.ndarray  # how often each stem of the query stands in each
    lengths_M: np.ndarray  # words of each
    looked_at: int  # rows with stems or text
    wordless: int  # rows with neither
    words: int  # of all rows looked at

    def scores(self) -> np.ndarray:
        """[M, Q] what each stem gives to each row's BM25."""
        holding_Q = self.holding()
        rarity_Q = np.log1p((self.looked_at - holding_Q + 0.5) / (holding_Q + 0.5))
        length_M1 = 1 - B + B * self.lengths_M[:, None] * self.looked_at / max(1, self.words)
        return rarity_Q * self.counts_MQ / (self.counts_MQ + K1 * length_M1)

    def holding(self) -> np.ndarray:
        """[Q] rows that hold each stem."""
        return (self.counts_MQ > 0).sum(axis=0)

    def tell_little(self) -> bool:
        """Whether every word that stands anywhere stands in most rows."""
        held_Q = self.holding()
        held_Q = held_Q[held_Q > 0]
        return bool(len(held_Q) and (held_Q > COMMON * self.looked_at).all())


def nearest_by_words(
    bank: Bank,
    query: str,
    k: int,
    *,
    filter: pc.Expression | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[Hit]:
    """The k chunks with the highest BM25, best first, ties by chunk_id; only chunks that hold a word of the query.

    Rows without stems are read by their text, where that was kept. `say` gets a line where rows have neither, or where
    the query's words are everywhere. Raises Refusal for a query without words, and where no row could be looked at.
    """
    asked = query_stems(query)
    found = _matches(bank, np.array(list(asked), np.uint32), filter)
    if found.wordless and not found.looked_at:
        raise Refusal(
            f"{bank.folder.uri} keeps neither words nor texts: encode its corpus into a new bank with "
            "`nextmem encode CORPUS NEWBANK --keep-words`, or search by latents."
        )
    if found.wordless:
        rows = found.wordless + found.looked_at
        say(f"by words: {found.wordless:,} of {rows:,} chunks keep neither words nor text, and are not found")
    if found.tell_little():
        say("by words: each word of the query stands in more than half of the chunks, or in none: it tells little")
    weights_Q = np.array([len(spelt) for spelt in asked.values()])
    return _best(found, found.scores() * weights_Q, [spelt[0] for spelt in asked.values()], k)


def query_stems(query: str) -> dict[int, list[str]]:
    """Each stem's hash to the words of the query that have it, in order. Raises Refusal for a query without words."""
    found: dict[int, list[str]] = {}
    spelt = words(query)
    for word, stem in zip(spelt, hashes(spelt), strict=True):
        found.setdefault(stem, []).append(word)
    if not found:
        raise Refusal("the query has no word to look for: give other words, or search by latents")
    return found


def _best(found: Matches, scores_MQ: np.ndarray, spelt: list[str], k: int) -> list[Hit]:
    total_M = scores_MQ.sum(axis=1)
    bar = np.partition(total_M, -k)[-k] if len(total_M) > k else -np.inf
    rows = np.flatnonzero(total_M >= bar)
    near = zip(hits(found.places, rows, total_M[rows]), rows, strict=True)
    best = sorted(near, key=lambda each: order(each[0]))[:k]
    return [
        replace(hit, by_words=Rank(place, hit.score, _parts(scores_MQ[row], spelt)))
        for place, (hit, row) in enumerate(best, 1)
    ]


def _parts(scores_Q: np.ndarray, spelt: list[str]) -> dict[str, float]:
    """What each word gave, most first; words that gave nothing are left out."""
    given = sorted(zip(spelt, scores_Q.tolist(), strict=True), key=lambda part: -part[1])
    return {word: score for word, score in given if score > 0}


def _matches(bank: Bank, asked_Q: np.ndarray, filter: pc.Expression | None) -> Matches:
    """One pass over the stems; a second over the texts of rows that have none."""
    numbers: Counter[str] = Counter()
    places, counts, lengths = [bank.schema.empty_table().select(PLACE)], [np.zeros((0, len(asked_Q)))], [np.zeros(0)]
    for batch, stems in _looked_at(bank, filter, numbers):
        counts_NQ, lengths_N = _counted(stems, asked_Q)
        rows = np.flatnonzero(counts_NQ.any(axis=1))
        numbers.update(looked_at=batch.num_rows, words=int(lengths_N.sum()))
        places.append(pa.table(batch.select(PLACE)).take(rows))
        counts.append(counts_NQ[rows])
        lengths.append(lengths_N[rows])
    numbers["wordless"] -= numbers.pop("texts", 0)
    figures = {name: numbers[name] for name in ("looked_at", "wordless", "words")}
    return Matches(pa.concat_tables(places), np.concatenate(counts), np.concatenate(lengths), **figures)


def _looked_at(
    bank: Bank, filter: pc.Expression | None, numbers: Counter[str]
) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    """Batches of rows with PLACE, and their packed stems."""
    known = STEMS in bank.schema.names
    for batch in bank.rows([*PLACE, *([STEMS] if known else [])], filter, batch_rows=BATCH_ROWS):
        held = batch.filter(batch.column(STEMS).is_valid()) if known else batch.slice(0, 0)
        numbers["wordless"] += batch.num_rows - held.num_rows
        if held.num_rows:
            yield held, held.column(STEMS)
    if numbers["wordless"]:
        texts = pc.field(TEXT).is_valid() & pc.field(STEMS).is_null() if known else pc.field(TEXT).is_valid()
        wanted = texts if filter is None else texts & filter
        for batch in bank.rows([*PLACE, TEXT], wanted, batch_rows=BATCH_ROWS):
            numbers["texts"] += batch.num_rows
            yield batch, pa.array([pack(text) for text in batch.column(TEXT).to_pylist()], pa.binary())


def _counted(packed_N: pa.Array, asked_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, Q] occurrences of the stems asked for, and [N] words."""
    bytes_N = pc.binary_length(packed_N).to_numpy(zero_copy_only=False)
    stems_S = np.frombuffer(b"".join(packed_N.to_pylist()), STEM)
    row_S = np.repeat(np.arange(len(packed_N)), bytes_N // STEM.itemsize)
    counts_NQ = np.zeros((len(packed_N), len(asked_Q)))
    for place, stem in enumerate(asked_Q):
        where = np.flatnonzero(stems_S["stem"] == stem)
        counts_NQ[row_S[where], place] = stems_S["count"][where]
    return counts_NQ, np.bincount(row_S, stems_S["count"], minlength=len(packed_N))
