"""Single texts and questions of an evaluation, to be read side by side: worst first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from jobs.evaluate.report.differences import Piece, differences, visible
from jobs.evaluate.results import Results, Sample
from jobs.evaluate.tasks.answer import READER


@dataclass(frozen=True, slots=True)
class Case:
    """A text and what was made of it, differences marked."""

    set: str
    id: str
    f1: float
    original: list[Piece]
    made: list[Piece]


@dataclass(frozen=True, slots=True)
class Replies:
    """A question, its first accepted answer, and what the reader said: (from what, the answer, its F1)."""

    set: str
    id: str
    question: str
    accepted: str
    said: list[tuple[str, str, float]]


def cases(results: Results) -> dict[str, list[Case]]:
    """Texts by system; a codec's dense row, which no bank stores, stands last."""
    found = defaultdict(list)
    for each in sorted(results.samples, key=lambda sample: sample.f1):
        if each.task == "reconstruct":
            both = differences(visible(each.original), visible(each.made))
            found[each.system].append(Case(each.set, each.id, each.f1, *both))
    return {name: found[name] for name in sorted(found, key=lambda name: _place(results, name))}


def answers(results: Results) -> list[Replies]:
    """Questions, each with all that the reader said: first from the text and from nothing, then from each memory."""
    asked: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for each in results.samples:
        if each.task == "answer":
            asked[each.set, each.id].append(each)
    return [_replies(some, results) for some in asked.values()]


def _replies(some: list[Sample], results: Results) -> Replies:
    said = [
        (_from(each), visible(each.made), each.f1)
        for each in sorted(some, key=lambda each: (each.system != READER, _place(results, each.system)))
    ]
    first = some[0]
    return Replies(first.set, first.id, visible(first.question or ""), visible(first.original), said)


def _from(each: Sample) -> str:
    source = str(each.at.get("from", ""))
    return source if each.system == READER else f"{each.system}, {source}"


def _place(results: Results, system: str) -> tuple[bool, int]:
    about = (results.systems.get(system) or {}).get("about") or {}
    return about.get("form") == "dense", list(results.systems).index(system) if system in results.systems else 0
