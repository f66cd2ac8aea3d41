"""Conversations to play: what is said, in its order, and what is asked about it.

A folder holds corpus.parquet (id, text, group), queries.parquet (id, question, answers, group) and qrels.parquet
(query_id, passage_id), such as LoCoMo, LongMemEval and HotpotQA give.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

CONVERSATION = Path(__file__).with_name("conversation.jsonl")


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that was said."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """Asked after all turns before it."""

    text: str
    answer: str


def conversations_of(
    data: str | None, conversations: int, questions: int, turns: int | None = None
) -> Iterator[list[Turn | Question]]:
    """So many conversations of a folder, drawn with a fixed seed; without a folder the one that lies beside this file.

    Each has at most so many questions, and `turns`, if that is given: those that answer its questions, and others. Of
    passages that are no conversations so many are drawn for so many questions.
    """
    if data is None:
        yield _written()
        return
    passages = pq.read_table(f"{data}/corpus.parquet").to_pylist()
    asked = [row for row in pq.read_table(f"{data}/queries.parquet").to_pylist() if row["answers"]]
    answering: dict[str, list[str]] = {}
    for row in pq.read_table(f"{data}/qrels.parquet").to_pylist():
        answering.setdefault(row["query_id"], []).append(row["passage_id"])
    asked = [row for row in asked if row["id"] in answering]
    random.Random(0).shuffle(asked)
    for own, rows in _grouped(asked, answering, passages, questions)[:conversations]:
        wanted = {passage for row in rows for passage in answering[row["id"]]}
        heard = own if turns is None else _some(own, wanted, turns)
        yield [
            *(Turn(row["id"], row["text"]) for row in heard),
            *(Question(row["question"], row["answers"][0]) for row in rows),
        ]


def _written() -> list[Turn | Question]:
    lines = [json.loads(line) for line in CONVERSATION.read_text(encoding="utf-8").splitlines()]
    return [
        Turn(f"turn-{place:03}", line["turn"]) if "turn" in line else Question(line["question"], line["answer"])
        for place, line in enumerate(lines)
    ]


def _grouped(
    asked: list[dict], answering: dict[str, list[str]], passages: list[dict], questions: int
) -> list[tuple[list[dict], list[dict]]]:
    """(passages, questions) of each conversation; where all passages are one group, so many questions at a time."""
    group_of = {row["id"]: row["group"] for row in passages}
    groups = set(group_of.values())
    if len(groups) == 1:
        return [(passages, asked[start : start + questions]) for start in range(0, len(asked), questions)]
    found: dict[str, list[dict]] = {}
    for row in asked:
        group = row["group"] if row["group"] in groups else group_of[answering[row["id"]][0]]
        found.setdefault(group, []).append(row)
    return [([row for row in passages if row["group"] == group], rows[:questions]) for group, rows in found.items()]


def _some(rows: list[dict], wanted: set[str], count: int) -> list[dict]:
    """Those that are wanted and others by lot, in their order."""
    others = [row["id"] for row in rows if row["id"] not in wanted]
    chosen = wanted | set(random.Random(0).sample(others, max(0, min(len(others), count - len(wanted)))))
    return [row for row in rows if row["id"] in chosen]
