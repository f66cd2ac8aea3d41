"""A search by latents, by words, or by both: what either side finds, joined by its places alone.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): a chunk scores the sum of 1 / (60 + place) over the sides
that found it. A cosine and a BM25 score have no common scale; places have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.index import open_index
from pipeline.bank.search import Hit, Rank, nearest, order
from pipeline.bank.word_search import nearest_by_words

LATENTS, WORDS, BOTH = BY = ("latents", "words", "both")
DEPTH = 100  # hits that each side brings to the fusion, at least
DAMPING = 60  # the paper's: the first place counts 1.6 % more than the second


def find(
    bank: Bank,
    query: str,
    k: int,
    *,
    by: str,
    embed: Callable[[str], np.ndarray],
    filter: pc.Expression | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[Hit]:
    """The k best chunks by what BY names, best first, each with its places; fewer where fewer are found.

    `embed` gives the query's embedding [E]; a search by words alone never calls it. `say` gets a line on what limits
    the search by words. Raises Refusal where words are asked for and there are none.
    """
    if by not in BY:
        raise Refusal(f"a search by {by!r}: wanted one of {', '.join(BY)}")
    if k < 1:
        raise ValueError(f"k is {k}: ask for at least one hit")
    words = nearest_by_words(bank, query, _depth(by, k), filter=filter, say=say) if by != LATENTS else []
    if by == WORDS:
        return words
    latents = ranked(_by_latents(bank, embed(query), _depth(by, k), filter, say))
    return latents if by == LATENTS else fuse(latents, words)[:k]


def _by_latents(
    bank: Bank, query_E: np.ndarray, k: int, filter: pc.Expression | None, say: Callable[[str], object]
) -> list[Hit]:
    """By the bank's index where there is one that fits; with a filter, and without one, every row is read."""
    index = open_index(bank, say) if filter is None else None
    found = index.nearest(query_E, k) if index is not None else None
    return nearest(bank, query_E, k, filter=filter) if found is None else found


def ranked(latents: Sequence[Hit]) -> list[Hit]:
    """Hits by cosine, best first, with their places."""
    return [replace(hit, by_latents=Rank(place, hit.score)) for place, hit in enumerate(latents, 1)]


def fuse(latents: Sequence[Hit], words: Sequence[Hit]) -> list[Hit]:
    """Both sides' hits, each chunk once with both its places, by the sum of 1 / (60 + place), ties by chunk id."""
    found = {hit.chunk_id: hit for hit in latents}
    for hit in words:
        found[hit.chunk_id] = replace(found.get(hit.chunk_id, hit), by_words=hit.by_words)
    return sorted((replace(hit, score=_fused(hit)) for hit in found.values()), key=order)


def _fused(hit: Hit) -> float:
    return sum(1 / (DAMPING + rank.place) for rank in (hit.by_latents, hit.by_words) if rank)


def _depth(by: str, k: int) -> int:
    return max(k, DEPTH) if by == BOTH else k
