"""What an evaluation comes to: `results.json`, written whole and read back by the report.

    {
      "format": 1,
      "made":    {"command": str, "date": ISO 8601, "seconds": float, "nextmem": version,
                  "versions": {package: version}, "python": str, "tasks": [str], "tokens": int,
                  "min_tokens": int, "processor": str, "cores": int,
                  "threads": int, "actors": int, "device": str, "data": str, "limit": int | null,
                  "seed": int, "draws": int, "reader": str, "prompt": {"before": str, "after": str},
                  "judge": {"model": str} | null},
      "systems": {name: {"kind": str, "identity": str, "can": [str], "base": name | null, "about": {...},
                  "costs": {"encoded": texts, "encode_seconds": float, "encodes": work a text, "stored_bytes": mean,
                            "decoded": texts, "decode_seconds": float, "embedded": texts, "embed_seconds": float}}},
      "sets":    {name: {"texts": int, "questions": int, "queries": int, "with_pool": int, "corpus": int,
                  "of_corpus": int, "left_out": {why: int}}},
      "items":   {"task/set": [item ids]},
      "figures": [Figure], "differences": [Difference], "overall": [Figure], "heats": [Heat], "samples": [Sample],
      "absent":  [{"task": str, "system": str | null, "set": str | null, "metric": str | null, "why": str}],
      "faults":  [{"task": str, "system": str, "set": str | null, "error": str}]
    }

A Figure is one number: of one task, system and set, under the conditions `at`, by one metric. Its values are in the
order of `items["task/set"]`, one an item, null where the item has none (a text without names has no share of names).
So any two systems are compared item by item, today or from two files: `jobs/evaluate/bootstrap.py`.
`overall` has means over sets, where there are several: their `set` is "all sets", and they hold no values. Differences
over all sets stand among the others.

What stands in `at`, by task:

| task | `at` | metrics |
|---|---|---|
| reconstruct | {} | f1, rouge1, rougeL, bleu, chrf, edit, whole, names, fidelity, patch_bytes |
| retrieve | {"pool": "question" or "corpus"} | hit@1, hit@5, hit@10, recall@5, recall@10, mrr@5, mrr@10, ndcg@10 |
| answer | {"from": one of FROM} | nats, gap, exact, f1, contains, judge |
| noise | {"sigma": float, "norm": float} | f1, whole |
| length | {"tokens": int} | f1, whole |
| segments | {} | within1, within2 (an item a swapped sentence) |
| rate | {"latents": int, "bits": float, "bytes": float} | f1, whole |

FROM is text, recalled, decoded, latents, foreign (another text's latents) and nothing.
`text` and `nothing` belong to no system: they stand under the system "reader", which `systems` does not hold. So does
the fidelity of the task reconstruct that the plain backbone has without a memory.
`gap` has one value a set, and per-item nats beside it: its interval is drawn over questions.
Figures are shares from 0 to 1 but for nats (lower is better), patch_bytes (lower is better) and gap (1 is the text).
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from model.refusal import Missing, Refusal

FORMAT = 1
LOWER_IS_BETTER = frozenset({"nats", "patch_bytes"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its 95 % interval (paired bootstrap over items) and what it is the mean of."""

    task: str
    system: str
    set: str
    metric: str
    value: float
    low: float
    high: float
    n: int  # items with a value
    at: dict[str, object] = field(default_factory=dict)
    values: list[float | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Difference:
    """`system` less `other`, over the items that both have. The interval tells them apart if it leaves 0 out."""

    task: str
    system: str
    other: str
    set: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    at: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heat:
    """How far each latent moves when a sentence's names change: rows are places in the text, columns are latents.

    A row is scaled so that its largest cell is 1, and is the mean of its swaps; a row without a swap is null.
    """

    system: str
    set: str
    rows: list[list[float] | None]  # [K][K]: the row is the latent that is expected to hold the sentence
    swaps: list[int]  # a row
    within1: float
    within2: float


@dataclass(frozen=True, slots=True)
class Sample:
    """A text beside what a system makes of it; worst, median and best of a set by F1."""

    task: str
    system: str
    set: str
    id: str
    original: str
    made: str
    f1: float
    question: str | None = None
    at: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """All of `results.json`; see the file's docstring."""

    made: dict[str, object]
    systems: dict[str, dict]
    sets: dict[str, dict]
    items: dict[str, list[str]]
    figures: list[Figure]
    differences: list[Difference] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    absent: list[dict] = field(default_factory=list)
    faults: list[dict] = field(default_factory=list)
    overall: list[Figure] = field(default_factory=list)


def write_results(results: Results, path: Path) -> None:
    """Whole or not at all."""
    record = {"format": FORMAT} | dataclasses.asdict(results)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_results(path: Path) -> Results:
    """Missing where there is no such file; Refusal for one that is torn, or of another format."""
    if not path.is_file():
        raise Missing(f"{path} is not there: `nextmem evaluate ... -o OUT` writes OUT/results.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record.pop("format")
        if found != FORMAT:
            raise Refusal(f"{path} has format {found}; this nextmem reads {FORMAT}: evaluate again")
        lists = {"figures": Figure, "overall": Figure, "differences": Difference, "heats": Heat, "samples": Sample}
        return Results(
            **record | {name: [kind(**each) for each in record.get(name, ())] for name, kind in lists.items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"{path} is torn, or no evaluation's results: {error!r}") from None
