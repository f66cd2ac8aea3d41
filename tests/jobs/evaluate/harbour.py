"""Two dozen passages about an invented harbour town, with a question on each: data for tests, written for them."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parent / "harbour.jsonl"
PASSAGES = [
    (row["group"], row["text"], row["question"], row["answer"])
    for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
]


def write(folder: Path) -> Path:
    """The set `harbour`: texts, questions, and a corpus whose groups are each question's pool."""
    rows = [
        {"id": f"q{i}", "question": question, "answers": [answer], "text": text, "group": group}
        for i, (group, text, question, answer) in enumerate(PASSAGES)
    ]
    lines(folder / "eval_harbour.jsonl", rows)
    retrieval = folder / "retrieval_harbour"
    lines(
        retrieval / "corpus.jsonl",
        [{"id": f"p{i}", "text": r["text"], "group": r["group"]} for i, r in enumerate(rows)],
    )
    lines(retrieval / "queries.jsonl", [{"id": r["id"], "question": r["question"], "group": r["group"]} for r in rows])
    lines(
        retrieval / "qrels.jsonl", [{"query_id": f"q{i}", "passage_id": f"p{i}", "score": 1} for i in range(len(rows))]
    )
    return folder


def lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
