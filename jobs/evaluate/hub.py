"""Public data sets by name, as `datasets` loads them from the Hugging Face hub: `--data hf:squad`.

A set is fetched once and written into the user's cache as the files that jobs/evaluate/sets.py reads. LoCoMo and
LongMemEval are no data sets of a hub; lay them into a folder (docs/evaluation.md has the columns).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.embedded import cache_folder, making
from model.refusal import Missing
from pipeline.corpus.hub import load_splits

PREFIX = "hf:"
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Public:
    """Where a set lies, and how one of its rows becomes rows of ours."""

    dataset: str
    config: str | None
    split: str
    rows: Callable[[dict], Iterator[Row]]


def fetched(name: str) -> Path:
    """The folder of a public set. Missing for an unknown name, Refusal where the hub does not give it."""
    argument = f"{PREFIX}{name}"
    if name not in SETS:
        raise Missing(f"there is no public set {argument}: wanted {', '.join(PREFIX + known for known in SETS)}")
    public = SETS[name]
    folder = cache_folder() / "sets" / name
    file = folder / f"eval_{name}.jsonl"
    if not file.is_file():
        with making(folder):
            splits = load_splits(argument, public.dataset, public.config, None, public.split)
            write(public, splits[public.split], file)
    return folder


def write(public: Public, rows: Iterable[dict], file: Path) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as out:
        for row in rows:
            for ours in public.rows(row):
                out.write(json.dumps(ours, ensure_ascii=False) + "\n")
    partial.replace(file)


def _squad(row: dict) -> Iterator[Row]:
    yield {
        "id": row["id"],
        "text": row["context"],
        "question": row["question"],
        "answers": list(dict.fromkeys(row["answers"]["text"])),
        "group": row["title"],
    }


def _hotpotqa(row: dict) -> Iterator[Row]:
    """The text is the supporting sentences alone, with their articles' titles, as the paper takes them."""
    sentences = dict(zip(row["context"]["title"], row["context"]["sentences"], strict=True))
    facts: dict[str, list[int]] = {}
    for title, place in zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True):
        facts.setdefault(title, []).append(place)
    parts = [
        f"{title}: " + "".join(sentences[title][i] for i in places if i < len(sentences[title])).strip()
        for title, places in facts.items()
        if title in sentences
    ]
    yield {"id": row["id"], "text": "\n".join(parts), "question": row["question"], "answers": [row["answer"]]}


def _race(row: dict) -> Iterator[Row]:
    answer = row["options"]["ABCD".index(row["answer"])]
    yield {"id": row["example_id"], "text": row["article"], "question": row["question"], "answers": [answer]}


def _wikitext(row: dict) -> Iterator[Row]:
    """Paragraphs; headings, which begin with =, are none."""
    text = row["text"].strip()
    if text and not text.startswith("="):
        yield {"text": text}


SETS = {
    "squad": Public("rajpurkar/squad", None, "validation", _squad),
    "hotpotqa": Public("hotpotqa/hotpot_qa", "distractor", "validation", _hotpotqa),
    "race": Public("ehovy/race", "all", "test", _race),
    "wikitext2": Public("Salesforce/wikitext", "wikitext-2-raw-v1", "test", _wikitext),
}
