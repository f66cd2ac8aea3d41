"""A system at work for a task: what it makes is kept, counted and timed, so that no task asks for it twice.

Shapes: N texts, C vectors of one text, E embedding width.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from jobs.evaluate.judge import Judge
from jobs.evaluate.kept import Kept, Record, key_of
from jobs.evaluate.reader import Prompt, Reader
from jobs.evaluate.sets import Cut
from jobs.evaluate.system import Answer, Memory, Question, System

READ_AT_ONCE = 64  # prompts; each step of an answer costs nearly the same for 16 as for 64


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


@dataclass(slots=True)
class Work:
    """`on_batch` hears what is made, and how many of how many. The reader is opened when it is first asked."""

    kept: Kept
    open_reader: Callable[[], Reader]
    on_batch: Callable[[str, int, int], object] = lambda what, done, of: None
    cut: Cut | None = None  # how texts are cut
    prompt: Prompt = field(default_factory=Prompt)  # of answering
    judge: Judge | None = None
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

        def make(places: list[int]) -> list[Record]:
            some = [texts[i] for i in places]
            made = system.encode(some, None if before is None else [before[i] for i in places])
            return [_record(memory) for memory in made]

        records = self._fill(system, "memory", [key_of(text) for text in texts], make, texts, "encode")
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

        def make(places: list[int]) -> list[Record]:
            return [Record(text) for text in system.decode([memories[i] for i in places])]

        keys = [key_of(each) for each in made_from]
        lengths = [" " * memory.tokens for memory in memories]
        return [record.says for record in self._fill(system, "draft", keys, make, lengths, "decode")]

    def recalled(self, system: System, memories: Sequence[Memory], texts: Sequence[str]) -> list[str]:
        """Exact texts, with all that is stored."""

        def make(places: list[int]) -> list[Record]:
            return [Record(text) for text in system.recall([memories[i] for i in places])]

        keys = [key_of(text) for text in texts]
        return [record.says for record in self._fill(system, "recalled", keys, make, texts, "decode")]

    def vectors(self, system: System, texts: Sequence[str], *, query: bool) -> list[np.ndarray]:
        """[C, E] a text."""

        def make(places: list[int]) -> list[Record]:
            vectors = system.embed([texts[i] for i in places], query=query)
            return [Record(None, {"vectors": each}) for each in vectors]

        keys = [key_of(text, query) for text in texts]
        records = self._fill(system, "vectors", keys, make, texts, "embed")
        return [record.arrays["vectors"] for record in records]

    def read(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Answer]:
        """What the reader answers that has the texts themselves; an empty text is none at all."""

        def make(places: list[int]) -> list[Record]:
            reader = self.reader
            contexts = [reader.embedded(texts[i]) for i in places]
            return [Record(dataclasses.asdict(a)) for a in reader.read(contexts, [questions[i] for i in places])]

        keys = [key_of(text, dataclasses.asdict(q)) for text, q in zip(texts, questions, strict=True)]
        records = self.kept.fill(
            "answer",
            self.reader.identity,
            keys,
            make,
            batch=READ_AT_ONCE,
            order=lambda i: len(texts[i]) + len(questions[i].after),
            on_batch=lambda done, of: self.on_batch("read", done, of),
        )
        return [Answer(**record.says) for record in records]

    def guessed(self, texts: Sequence[str]) -> list[float]:
        """What the reader gets right of each text without a memory."""

        def make(places: list[int]) -> list[Record]:
            return [Record(share) for share in self.reader.guessed([texts[i] for i in places])]

        keys = [key_of(text) for text in texts]
        by_length = {"order": lambda i: len(texts[i]), "batch": READ_AT_ONCE}
        return [record.says for record in self.kept.fill("guess", self.reader.identity, keys, make, **by_length)]

    def answers(
        self, system: System, memories: Sequence[Memory], questions: Sequence[Question], made_from: Sequence[object]
    ) -> list[Answer]:
        """What the reader answers that has the memories in the text's place."""

        def make(places: list[int]) -> list[Record]:
            found = system.answer([memories[i] for i in places], [questions[i] for i in places], self.reader)
            return [Record(dataclasses.asdict(answer)) for answer in found]

        asked = [dataclasses.asdict(question) for question in questions]
        keys = [key_of(self.reader.identity, *both) for both in zip(made_from, asked, strict=True)]
        lengths = [question.after for question in questions]
        records = self._fill(system, "answer", keys, make, lengths, "answer", READ_AT_ONCE)
        return [Answer(**record.says) for record in records]

    def _fill(
        self,
        system: System,
        kind: str,
        keys: Sequence[str],
        make: Callable[[list[int]], list[Record]],
        texts: Sequence[str],
        verb: str,
        most: int | None = None,
    ) -> list[Record]:
        costs = self.costs.setdefault(system.name, Costs())
        counted = f"{verb}ed" if verb[-1] != "e" else f"{verb}d"
        counted = {"embeded": "embedded"}.get(counted, counted)

        def timed(places: list[int]) -> list[Record]:
            start = time.perf_counter()
            made = make(places)
            seconds = f"{verb}_seconds"
            setattr(costs, seconds, getattr(costs, seconds) + time.perf_counter() - start)
            setattr(costs, counted, getattr(costs, counted) + len(places))
            return made

        return self.kept.fill(
            kind,
            system.identity,
            keys,
            timed,
            batch=min(system.batch, most or system.batch),
            order=lambda i: len(texts[i]),
            on_batch=lambda done, of: self.on_batch(verb, done, of),
        )


def _record(memory: Memory) -> Record:
    says = {f.name: getattr(memory, f.name) for f in dataclasses.fields(memory) if f.name != "parts"}
    return Record(says, memory.parts)


def _memory(record: Record) -> Memory:
    return Memory(record.arrays, **record.says)
