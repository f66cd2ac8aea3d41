"""A search by latents, by words, or by both: what either side finds, brought to one scale and added up.

A cosine and a BM25 score have no common scale, so each side's scores are first stretched to 0 to 1 over what it found.
Their weighted sum keeps how far apart a side put two chunks (Bruch, Gai and Ingber, 2023). Places alone, as reciprocal
rank fusion takes them, lose that: a side that is unsure then counts as much as one that is sure (docs/search.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def find(
    bank: Bank,
    query: str,
    k: int,
    *,
    by: str,
    embed: Callable[[str], np.ndarray],
    weight: Callable[[], float],
    filter: pc.Expression | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> list[Hit]:
    """The k best chunks by what BY names, best first, each with its places; fewer where fewer are found.

    `embed` gives the query's embedding [E]; a search by words alone never calls it. `weight` gives the latents' share
    of the score, 0 to 1; only a search by both calls it. `say` gets a line on what limits the search by words. Raises
    Refusal where words are asked for and there are none.
    """
    if by not in BY:
        raise Refusal(f"a search by {by!r}: wanted one of {', '.join(BY)}")
    if k < 1:
        raise ValueError(f"k is {k}: ask for at least one hit")
    words = nearest_by_words(bank, query, _depth(by, k), filter=filter, say=say) if by != LATENTS else []
    if by == WORDS:
        return words
    latents = ranked(_by_latents(bank, embed(query), _depth(by, k), filter, say))
    return latents if by == LATENTS else fuse(latents, words, weight())[:k]


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


def fuse(latents: Sequence[Hit], words: Sequence[Hit], weight: float) -> list[Hit]:
    """Both sides' hits, each chunk once, by what both gave it, ties by chunk id.

    The latents give at most `weight`: all of it to their best hit, nothing to their last. The words give the rest to
    their best hit, and of it as large a part to another as its BM25 is of the best one. Raises Refusal for a weight
    that is not 0 to 1.
    """
    if not 0 <= weight <= 1:
        raise Refusal(f"the weight of the latents is {weight}: wanted 0 (words alone decide) to 1 (latents alone do)")
    found = {hit.chunk_id: replace(hit, by_latents=rank) for hit, rank in _given(latents, "by_latents", weight)}
    for hit, rank in _given(words, "by_words", 1 - weight, lowest=0.0):
        found[hit.chunk_id] = replace(found.get(hit.chunk_id, hit), by_words=rank)
    return sorted((replace(hit, score=_sum(hit)) for hit in found.values()), key=order)


def _given(hits: Sequence[Hit], side: str, weight: float, *, lowest: float | None = None) -> Iterator[tuple[Hit, Rank]]:
    """Each hit with its rank on one side, which now says what the side gives to the sum."""
    scores = [getattr(hit, side).score for hit in hits]
    highest = max(scores, default=0.0)
    floor = min(scores, default=0.0) if lowest is None else lowest
    for hit, score in zip(hits, scores, strict=True):
        part = (score - floor) / (highest - floor) if highest > floor else 1.0
        yield hit, replace(getattr(hit, side), given=weight * part)


def _sum(hit: Hit) -> float:
    return sum(rank.given or 0.0 for rank in (hit.by_latents, hit.by_words) if rank)


def _depth(by: str, k: int) -> int:
    return max(k, DEPTH) if by == BOTH else k
