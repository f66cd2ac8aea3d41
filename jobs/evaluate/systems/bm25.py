"""BM25: search by words, through bm25s. It drops one-letter words and English stop words, as bm25s does by default."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.evaluate.system import Opening, System
from model.refusal import Refusal


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    """Refusal where bm25s is not installed."""
    try:
        import bm25s
    except ModuleNotFoundError:
        raise Refusal("bm25 needs the package bm25s: pip install 'nextmem[evaluate]'") from None
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets it to DEBUG
    return [Bm25(name, bm25s.__version__)]


class Bm25:
    """k1 = 1.5, b = 0.75, Lucene's formula. Words are counted over the corpus that is searched."""

    kind, batch, base = "bm25", 1024, None
    can = frozenset({"rank"})

    def __init__(self, name: str, version: str):
        self.name, self.identity = name, f"bm25s {version}"
        self.about: dict[str, object] = {"k1": 1.5, "b": 0.75, "method": "lucene", "stopwords": "en"}

    def rank(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
        import bm25s

        index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        index.index(bm25s.tokenize(list(passages), stopwords="en", show_progress=False), show_progress=False)
        asked = bm25s.tokenize(list(queries), stopwords="en", return_ids=False, show_progress=False)
        nothing = np.zeros(len(passages), dtype=np.float32)
        return np.stack([index.get_scores(words).astype(np.float32) if words else nothing for words in asked])
