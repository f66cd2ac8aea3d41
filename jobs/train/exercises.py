"""Which exercises a step of a reader's training holds: a function of passages, seed and step alone.

Half of a batch continues passages, a third answers questions, the rest asks without a memory or with a foreign one.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jobs.train.questions import Asked, questions_of
from jobs.train.run_folder import replace_file
from model.tokens import TextTokenizer
from model.training.reading import ANSWER, CONTINUATION, WITHOUT, Exercise

LONGEST_TARGET = 32  # tokens of a continuation
SHORTEST = 24  # tokens of a chunk that is asked about or continued
PROMPTS = (  # (before, after) the memory; the first is the one that is measured
    ("", "\n\nQuestion: {question}\nAnswer in a few words.\nAnswer:"),
    ("", "\n\nQ: {question}\nA:"),
    ("What is known:\n", "\n\n{question}\nThe answer is"),
)


def choose_passages(texts: Iterable[str], count: int, seed: int) -> list[str]:
    """So many of the texts, by their hashes: the same whatever order they come in."""

    def place(text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=8, salt=seed.to_bytes(8, "little")).digest()

    return heapq.nsmallest(count, texts, key=place)


def write_chosen(texts: Sequence[str], path: Path) -> None:
    """One JSON line a text; whole or not there."""
    replace_file(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))


def read_chosen(path: Path) -> list[str]:
    """The inverse of `write_chosen`."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


class Exercises:
    """Exercises over passages, the first `held_out` of which are only looked at."""

    def __init__(
        self, passages: Sequence[str], tokenizer: TextTokenizer, *, chunk_tokens: int, held_out: int, seed: int
    ):
        self.passages, self.tokenizer, self.chunk_tokens = passages, tokenizer, chunk_tokens
        self.held_out, self.seed = held_out, seed

    def batch(self, step: int, size: int) -> list[Exercise]:
        """Exercises of one step, kind by kind."""
        halves, thirds = size // 2, size // 3
        kinds = [CONTINUATION] * halves + [ANSWER] * thirds + [WITHOUT] * (size - halves - thirds)
        return [self._exercise(kind, step, place, self._drawn(step, place, size)) for place, kind in enumerate(kinds)]

    def looked_at(self) -> list[Exercise]:
        """A question about each held-out passage that gives one, put in the first prompt, its chunk alone before it."""
        found = []
        for place in range(self.held_out):
            chunk, asked = self._asked(place, np.random.default_rng((self.seed, place)))
            if asked is not None:
                found.append(self._answer(asked, (chunk,), PROMPTS[0]))
        return found

    def _drawn(self, step: int, place: int, size: int) -> int:
        """Which passage: an epoch goes over all of them, in an order of its own."""
        count = len(self.passages) - self.held_out
        epoch, offset = divmod(step * size + place, count)
        return self.held_out + int(np.random.default_rng((self.seed, epoch)).permutation(count)[offset])

    def _exercise(self, kind: str, step: int, place: int, passage: int) -> Exercise:
        random = np.random.default_rng((self.seed, step, place))
        if kind == CONTINUATION:
            return self._continued(passage, random)
        chunk, asked = self._asked(passage, random)
        if asked is None:
            return self._continued(passage, random)
        prompt = PROMPTS[int(random.integers(len(PROMPTS)))]
        if kind == ANSWER:
            return self._answer(asked, self._among_others(chunk, random), prompt)
        foreign = (self._cut(self._other(random))[0],) if random.integers(2) else ()
        answer = self._answer(asked, foreign, prompt)
        return Exercise(WITHOUT, answer.chunks, answer.before, answer.after, answer.target)

    def _continued(self, passage: int, random: np.random.Generator) -> Exercise:
        """A chunk and what follows it; of a passage of one chunk a part of it, and the rest."""
        chunk, *rest = self._cut(passage)
        nothing = np.empty(0, np.int64)
        if not rest:
            at = int(random.integers(max(1, len(chunk) // 3), max(2, 2 * len(chunk) // 3 + 1)))
            at = min(at, len(chunk) - 1) or 1
            chunk, rest = chunk[:at], [chunk[at:] if len(chunk) > 1 else chunk]
        return Exercise(CONTINUATION, (chunk,), nothing, nothing, rest[0][:LONGEST_TARGET])

    def _answer(self, asked: Asked, chunks: tuple[np.ndarray, ...], prompt: tuple[str, str]) -> Exercise:
        before, after = prompt[0], prompt[1].format(question=asked.question)
        return Exercise(ANSWER, chunks, self._ids(before), self._ids(after), self._ids(" " + asked.answer))

    def _asked(self, passage: int, random: np.random.Generator) -> tuple[np.ndarray, Asked | None]:
        """The passage's first chunk and a question that it answers."""
        chunk = self._cut(passage)[0]
        asked = questions_of(self.tokenizer.decode(chunk), random) if len(chunk) >= SHORTEST else []
        return chunk, asked[int(random.integers(len(asked)))] if asked else None

    def _among_others(self, chunk: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Half of the time with another passage's chunk before or after it, as a search brings it."""
        if random.integers(2):
            return (chunk,)
        other = self._cut(self._other(random))[0]
        return (chunk, other) if random.integers(2) else (other, chunk)

    def _other(self, random: np.random.Generator) -> int:
        return int(random.integers(self.held_out, len(self.passages)))

    def _cut(self, passage: int) -> list[np.ndarray]:
        (chunks,) = self.tokenizer.cut_many([self.passages[passage]], self.chunk_tokens)
        return [np.asarray(chunk, np.int64) for chunk in chunks]

    def _ids(self, text: str) -> np.ndarray:
        return np.asarray(self.tokenizer.encode(text) if text else [], np.int64)
