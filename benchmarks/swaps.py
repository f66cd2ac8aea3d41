"""Edits to try: in real chunks, one name, number or date that stands there once gives way to another of its kind.

What comes instead is drawn from the other chunks, with one seed. Shapes: L text tokens.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.tokens import TextTokenizer

MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
KINDS = {  # tried in this order: the first that a chunk has, of the kinds drawn least so far
    "date": re.compile(rf"\b(?:\d{{1,2}} {MONTH}|{MONTH} \d{{1,2}})\b|\b(?:1[5-9]|20)\d\d\b"),
    "number": re.compile(r"(?<![\d.,-])\d{1,3}(?:,\d{3})*(?![\d.,-]*\d)"),
    "name": re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})?\b"),
}
ROOM = 8  # tokens that a chunk is shorter than it may be: a new value may be longer than the old one


@dataclass(frozen=True, slots=True)
class Swap:
    """One value of one chunk, and the values that come in its place one after the other."""

    kind: str
    before: str  # of the chunk's text
    old: str
    after: str
    new: tuple[str, ...]  # the first is the edit; all of them are a drift

    def text(self, value: str) -> str:
        return self.before + value + self.after


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids of a chunk [L], and where they differ from those before the edit: [start, end)."""

    tokens_L: np.ndarray
    start: int
    end: int


def swaps(tokenizer: TextTokenizer, texts: Sequence[str], limit: int, count: int, values: int) -> list[Swap]:
    """At most `count`, of the kinds in turn, each with `values` new values; one a text, cut to its first chunk."""
    draw = random.Random(0)
    chunks = [_first(tokenizer, text, limit - ROOM) for text in texts]
    pool = {kind: sorted({found for text in chunks for found in like.findall(text)}) for kind, like in KINDS.items()}
    made: list[Swap] = []
    drawn = dict.fromkeys(KINDS, 0)
    for text in chunks:
        if len(made) == count:
            break
        for kind in sorted(KINDS, key=lambda kind: drawn[kind]):
            swap = next(_in(text, kind, pool[kind], draw, values), None)
            if swap and all(len(tokenizer.encode(swap.text(value))) <= limit for value in swap.new):
                made.append(swap)
                drawn[kind] += 1
                break
    return made


def changed(before_L: np.ndarray, after_L: np.ndarray) -> Ids:
    """The new ids, and which of them are not the old ones: all between the common beginning and the common end."""
    shortest = min(len(before_L), len(after_L))
    start = int(np.cumprod(before_L[:shortest] == after_L[:shortest]).sum())
    left = shortest - start
    ends = (before_L[len(before_L) - left :] == after_L[len(after_L) - left :])[::-1]
    return Ids(after_L, start, len(after_L) - int(np.cumprod(ends).sum()))


def _in(text: str, kind: str, pool: Sequence[str], draw: random.Random, values: int) -> Iterator[Swap]:
    """The values of a kind that stand once in a text, in an order that is drawn, each with others of the same form."""
    places = list(KINDS[kind].finditer(text))
    draw.shuffle(places)
    for place in places:
        old = place[0]
        others = [value for value in pool if _form(value) == _form(old) and value not in text]
        if text.count(old) == 1 and len(others) >= values:
            yield Swap(kind, text[: place.start()], old, text[place.end() :], tuple(draw.sample(others, values)))


def _form(value: str) -> tuple[int, int]:
    """Words, and digits: what a value must share with the one whose place it takes."""
    return len(value.split()), sum(map(str.isdigit, value))


def _first(tokenizer: TextTokenizer, text: str, limit: int) -> str:
    chunk = next(tokenizer.chunks(text, limit))
    return text[chunk.char_start : chunk.char_end]
