"""Queries that stand for a passage and need no labels: its title, its sentences, its second half, words of a sentence.

A passage's latents hold all of it, so a sentence asks for the passage that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

SENTENCES = 2  # of a passage: the first, and others drawn by lot
WORDS = 3, 8  # that a query of words alone has, at least and at most
LONG = 4  # letters: a shorter word is seldom what a person asks about
_END = re.compile(r"(?<=[.!?])\s+|\n+")


def queries_of(text: str, title: str | None, random: np.random.Generator) -> list[str]:
    """What may be asked for this passage, the first of its sentences first; never empty for a text with two words."""
    sentences = [piece.strip() for piece in _END.split(text) if len(piece.split()) >= 3]
    chosen = sentences[:1] + _drawn(sentences[1:], SENTENCES - 1, random)
    words = text.split()
    found = [*chosen, " ".join(words[len(words) // 2 :]), title or "", _words(random.permutation(sentences), random)]
    return list(dict.fromkeys(query for query in found if query and query != text))


def _words(sentences: Sequence[str], random: np.random.Generator) -> str:
    """A few of the longer words of one sentence, in its order, without its marks: as people type."""
    for sentence in sentences:
        words = [word for word in re.findall(r"\w+", sentence) if len(word) >= LONG]
        if len(words) >= WORDS[0]:
            count = min(len(words), int(random.integers(WORDS[0], WORDS[1] + 1)))
            return " ".join(words[i] for i in sorted(random.choice(len(words), count, replace=False))).lower()
    return ""


def _drawn(values: Sequence[str], count: int, random: np.random.Generator) -> list[str]:
    return [values[i] for i in sorted(random.permutation(len(values))[:count])]
