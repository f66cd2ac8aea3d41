"""Nearest chunks by cosine: every embedding is read once, in order, and only the best k are kept.

Shapes: Q queries, N rows, E embedding width. Brute force is exact, needs no index to build or keep, and reads 2 to 4 KB
a chunk. Past some millions of chunks, export the embeddings into a vector store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.finite import NotFiniteError
from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.schema import CHAR_END, CHAR_START, CHUNK_ID, DOC_ID, EMBEDDING, POSITION, SOURCE

if TYPE_CHECKING:
    from model.codec import Codec

BATCH_ROWS = 8192
PLACE = [CHUNK_ID, DOC_ID, POSITION, SOURCE, CHAR_START, CHAR_END]
_ROUNDING = 1e-5  # float32 products round differently by batch shape; what is this close is compared in float64


@dataclass(frozen=True, slots=True)
class Rank:
    """Where one side of a search, latents or words, put a chunk."""

    place: int  # 1 is the best
    score: float  # cosine of the embeddings, or BM25 of the words
    parts: dict[str, float] = field(default_factory=dict)  # what each word of the query gave to BM25
    given: float | None = None  # to the score of a search by both


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk and how near it is."""

    chunk_id: str
    doc_id: str
    position: int
    source: str
    char_start: int
    char_end: int
    score: float  # cosine, -1 to 1; BM25, from 0 up; or by both the sum of what either gave, 0 to 1
    by_latents: Rank | None = None
    by_words: Rank | None = None


def nearest(bank: Bank, query_E: np.ndarray, k: int, *, filter: pc.Expression | None = None) -> list[Hit]:
    """The k chunks with the highest cosine, best first, ties by chunk_id; fewer where there are fewer."""
    return nearest_of_each(bank, np.asarray(query_E)[None], k, filter=filter)[0]


def nearest_of_each(
    bank: Bank, queries_QE: np.ndarray, k: int, *, filter: pc.Expression | None = None
) -> list[list[Hit]]:
    """`nearest` for many queries in one pass over the bank. Memory: one batch of rows and Q * k hits.

    Raises NotFiniteError for a row whose embedding is no number: it is near nothing, and would never be found.
    """
    unit_QE = unit_queries(bank, np.asarray(queries_QE, np.float64), k)
    best: list[list[Hit]] = [[] for _ in unit_QE]
    for batch in bank.rows([*PLACE, EMBEDDING], filter, batch_rows=BATCH_ROWS):
        rows_NE = embeddings(bank, batch)
        scores_QN = unit_QE.astype(np.float32) @ rows_NE.T
        for query, scores_N in enumerate(scores_QN):
            near = _worth_a_look(scores_N, best[query], k)
            exact = (rows_NE[near].astype(np.float64) * unit_QE[query]).sum(axis=1)
            best[query] = sorted([*best[query], *hits(batch, near, exact)], key=order)[:k]
    return best


def embed_query(codec: Codec, query: str) -> np.ndarray:
    """The query's embedding [E]: `embed_queries` of one."""
    return embed_queries(codec, [query])[0]


def embed_queries(codec: Codec, queries: Sequence[str]) -> np.ndarray:
    """The queries' embeddings [Q, E] from one batch, as chunks'; of one longer than a chunk, the mean of its chunks.

    A shorter one is repeated until it fills a chunk: latents of few words tell first of all that they are few, and lie
    near every short chunk of the bank (docs/decisions.md). A codec with a head embeds the query's tokens instead.
    """
    chunks = [_query_chunks(codec, query) for query in queries]
    if codec.head is not None and chunks:
        return codec.embed_queries([np.concatenate(each) for each in chunks]).cpu().numpy()
    filled = [_filled(codec, query, each) for query, each in zip(queries, chunks, strict=True)]
    memories = iter(codec.memorise([ids for each in filled for ids in each], verify=False) if filled else ())
    means = [np.mean([next(memories).embedding_E for _ in each], axis=0) for each in filled]
    return np.array(means, np.float32).reshape(len(filled), codec.embedding_width)


def _query_chunks(codec: Codec, query: str) -> list[np.ndarray]:
    """Token ids of each chunk of the query. Raises Refusal where there are none."""
    limit = codec.config.chunk_tokens
    chunks = [c.token_ids for c in codec.tokenizer.chunks(query, limit) if len(c.token_ids)]
    if not chunks:
        raise Refusal("the codec's tokenizer finds no token in the query: give other words to search for")
    return chunks


def _filled(codec: Codec, query: str, chunks: list[np.ndarray]) -> list[np.ndarray]:
    """A query of one chunk, repeated until it fills it; a longer one as it is."""
    limit = codec.config.chunk_tokens
    if len(chunks) > 1:
        return chunks
    return [next(codec.tokenizer.chunks(" ".join([query] * (limit // len(chunks[0]))), limit)).token_ids]


def unit_queries(bank: Bank, queries_QE: np.ndarray, k: int) -> np.ndarray:
    """float64 [Q, E] of length 1. ValueError for another width, a query that points nowhere, and no hits."""
    width = bank.identity.embedding_width
    if queries_QE.ndim != 2 or queries_QE.shape[1] != width:
        found = queries_QE.shape[1:] if queries_QE.ndim > 1 else queries_QE.shape
        raise ValueError(
            f"a query of shape {found} for embeddings of {width} values: embed it with the bank's own codec"
        )
    if k < 1:
        raise ValueError(f"k is {k}: ask for at least one hit")
    norms_Q1 = np.linalg.norm(queries_QE, axis=1, keepdims=True)
    if not (np.isfinite(norms_Q1).all() and (norms_Q1 > 0).all()):
        raise ValueError("a query that is zero or not finite points nowhere: embed a text that has words")
    return queries_QE / norms_Q1


def embeddings(bank: Bank, batch: pa.RecordBatch) -> np.ndarray:
    """float32 [N, E] of a batch with chunk ids. NotFiniteError names a row whose embedding is no number."""
    values = batch.column(EMBEDDING).flatten().to_numpy(zero_copy_only=False)
    rows_NE = values.reshape(-1, bank.identity.embedding_width)
    odd = np.flatnonzero(~np.isfinite(rows_NE).all(axis=1))
    if len(odd):
        chunk_id = batch.column(CHUNK_ID)[odd[0].item()].as_py()
        raise NotFiniteError(
            f"{bank.folder.uri}: the embedding of chunk {chunk_id} is not finite. `nextmem verify` names all such rows."
        )
    return rows_NE


def _worth_a_look(scores_N: np.ndarray, best: list[Hit], k: int) -> np.ndarray:
    """Rows that may belong among the best k, by float32 scores; a few more than needed."""
    bar = best[-1].score if len(best) == k else -np.inf
    if len(scores_N) > k:
        bar = max(bar, np.partition(scores_N, -k)[-k])
    return np.flatnonzero(scores_N >= bar - _ROUNDING)


def hits(batch: pa.RecordBatch | pa.Table, rows: np.ndarray, scores: np.ndarray) -> list[Hit]:
    """The rows of a batch with PLACE as hits, in the order given."""
    places = batch.select(PLACE).take(pa.array(rows)).to_pylist()
    return [Hit(**place, score=float(score)) for place, score in zip(places, scores, strict=True)]


def order(hit: Hit) -> tuple[float, str]:
    """The best score first, ties by chunk id."""
    return -hit.score, hit.chunk_id
