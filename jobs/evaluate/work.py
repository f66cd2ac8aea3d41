"""A system at work for a task: what it makes is kept, counted and timed, so that no task asks for it twice.

Shapes: N texts, C vectors of one text, E embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from jobs.evaluate.judge import Judge
from jobs.evaluate.kept import Kept, Record, key_of
from jobs.evaluate.makers import Actors, Call, Made, made
from jobs.evaluate.reader import Prompt, Reader
from jobs.evaluate.sets import Cut
from jobs.evaluate.system import Answer, Memory, Question, System

READ_AT_ONCE = 64  # prompts; each step of an answer costs nearly the same for 16 as for 64
GUESSED_AT_ONCE = 32  # texts
LARGEST = 1 << 30  # no bound but the system's own
COUNTED = {"encode": "encoded", "decode": "decoded", "embed": "embedded", "answer": "answered"}


@dataclass(slots=True)
class Costs:
    """What a system made in this run, and how long it took; what was kept already is not in here."""

    encoded: int = 0
    encode_seconds: float = 0.0
    decoded: int = 0
    decode_seconds: float = 0.0
    embedded: int = 0
    embed_seconds: float = 0.0
    answered: int = 0
    answer_seconds: float = 0.0

    def add(self, verb: str, items: int, seconds: float) -> None:
        """`verb`: encode, decode, embed or answer."""
        count, spent = COUNTED[verb], f"{verb}_seconds"
        setattr(self, count, getattr(self, count) + items)
        setattr(self, spent, getattr(self, spent) + seconds)


@dataclass(slots=True)
class Work:
    """`on_batch` hears what is made, and how many of how many. The reader is opened when it is first asked."""

    kept: Kept
    open_reader: Callable[[], Reader]
    on_batch: Callable[[str, int, int], object] = lambda what, done, of: None
    cut: Cut | None = None  # how texts are cut
    prompt: Prompt = field(default_factory=Prompt)  # of answering
    judge: Judge | None = None
    actors: Actors | None = None  # who makes it all; None: this process
    banks: Path | None = None  # where banks of large corpora go; None: nowhere, all is embedded in this process
    costs: dict[str, Costs] = field(default_factory=dict)
    _reader: Reader | None = None
    _sizes: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        if self._reader is None:
            self._reader = self.open_reader()
        return self._reader

    def memories(self, system: System, texts: Sequence[str]) -> list[Memory]:
        """One a text; those of the system's base are made, and kept, first."""
        before = self.memories(system.base, texts) if system.base else None

        def call(places: list[int]) -> Call:
            given = None if before is None else [before[i] for i in places]
            return Call(system.name, "encode", ([texts[i] for i in places], given))

        records = self._fill(system, "memory", [key_of(text) for text in texts], call, _record, texts, "encode")
        made = [_memory(record) for record in records]
        self._sizes.setdefault(system.name, []).extend((memory.stored_bytes, memory.work) for memory in made)
        return made

    def sizes(self, system: System) -> dict[str, float]:
        """Means over all memories that were asked for: bytes stored, and encodes that one took."""
        seen = self._sizes.get(system.name)
        if not seen:
            return {}
        return {"stored_bytes": fmean(each[0] for each in seen), "encodes": fmean(each[1] for each in seen)}

    def drafts(self, system: System, memories: Sequence[Memory], made_from: Sequence[object]) -> list[str]:
        """What the memories alone give. `made_from` says for each what it is of: its text, and what was done to it."""

        def call(places: list[int]) -> Call:
            return Call(system.name, "decode", ([memories[i] for i in places],))

        keys = [key_of(each) for each in made_from]
        lengths = [" " * memory.tokens for memory in memories]
        return [record.says for record in self._fill(system, "draft", keys, call, Record, lengths, "decode")]

    def recalled(self, system: System, memories: Sequence[Memory], texts: Sequence[str]) -> list[str]:
        """Exact texts, with all that is stored."""

        def call(places: list[int]) -> Call:
            return Call(system.name, "recall", ([memories[i] for i in places],))

        keys = [key_of(text) for text in texts]
        return [record.says for record in self._fill(system, "recalled", keys, call, Record, texts, "decode")]

    def vectors(self, system: System, texts: Sequence[str], *, query: bool) -> list[np.ndarray]:
        """[C, E] a text."""

        def call(places: list[int]) -> Call:
            return Call(system.name, "embed", ([texts[i] for i in places],), {"query": query})

        def record(vectors: np.ndarray) -> Record:
            return Record(None, {"vectors": vectors})

        records = self._fill(system, "vectors", [key_of(text, query) for text in texts], call, record, texts, "embed")
        return [record.arrays["vectors"] for record in records]

    def read(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Answer]:
        """What the reader answers that has the texts themselves; an empty text is none at all."""

        def call(places: list[int]) -> Call:
            return Call(None, "read_texts", ([texts[i] for i in places], [questions[i] for i in places]))

        keys = [key_of(text, dataclasses.asdict(q)) for text, q in zip(texts, questions, strict=True)]
        lengths = [text + question.after for text, question in zip(texts, questions, strict=True)]
        records = self._fill(None, "answer", keys, call, _answered, lengths, "answer", READ_AT_ONCE)
        return [Answer(**record.says) for record in records]

    def guessed(self, texts: Sequence[str]) -> list[float]:
        """What the reader gets right of each text without a memory."""

        def call(places: list[int]) -> Call:
            return Call(None, "guessed", ([texts[i] for i in places],))

        keys = [key_of(text) for text in texts]
        return [record.says for record in self._fill(None, "guess", keys, call, Record, texts, "read", GUESSED_AT_ONCE)]

    def answers(
        self, system: System, memories: Sequence[Memory], questions: Sequence[Question], made_from: Sequence[object]
    ) -> list[Answer]:
        """What the reader answers that has the memories in the text's place."""

        def call(places: list[int]) -> Call:
            return Call(system.name, "answer", ([memories[i] for i in places], [questions[i] for i in places]))

        asked = [dataclasses.asdict(question) for question in questions]
        keys = [key_of(self.reader.identity, *both) for both in zip(made_from, asked, strict=True)]
        lengths = [question.after for question in questions]
        records = self._fill(system, "answer", keys, call, _answered, lengths, "answer", READ_AT_ONCE)
        return [Answer(**record.says) for record in records]

    def _fill(
        self,
        system: System | None,
        kind: str,
        keys: Sequence[str],
        call: Callable[[list[int]], Call],
        record: Callable[[Any], Record],
        texts: Sequence[str],
        verb: str,
        most: int = LARGEST,
    ) -> list[Record]:
        """What is kept, and the rest made by the system, or by the reader where there is none. Texts tell lengths."""

        def make(batches: list[list[int]]) -> Iterator[tuple[list[int], list[Record]]]:
            for done in self._run(system, (call(places) for places in batches)):
                places = batches[done.place]
                if system is not None:
                    self.costs.setdefault(system.name, Costs()).add(verb, len(places), done.seconds)
                yield places, [record(each) for each in done.found]

        return self.kept.fill(
            kind,
            self.reader.identity if system is None else system.identity,
            keys,
            make,
            batch=most if system is None else min(system.batch, most),
            shares=1 if self.actors is None else self.actors.count,
            order=lambda i: len(texts[i]),
            on_batch=lambda done, of: self.on_batch(verb, done, of),
        )

    def _run(self, system: System | None, calls: Iterable[Call]) -> Iterator[Made]:
        if self.actors is not None:
            return self.actors.run(calls)
        return (made(place, call, system, lambda: self.reader) for place, call in enumerate(calls))


def _answered(answer: Answer) -> Record:
    return Record(dataclasses.asdict(answer))


def _record(memory: Memory) -> Record:
    says = {f.name: getattr(memory, f.name) for f in dataclasses.fields(memory) if f.name != "parts"}
    return Record(says, memory.parts)


def _memory(record: Record) -> Memory:
    return Memory(record.arrays, **record.says)
