"""Rows of the public data sets become rows of ours: on rows of their form, written for these tests."""

from __future__ import annotations

import datasets
import pytest

from jobs.evaluate import hub
from jobs.evaluate.tables import rows_of
from model.refusal import Missing, Refusal

SQUAD = {
    "id": "s1",
    "title": "Norrholm",
    "context": "The Alma leaves from pier 3.",
    "question": "From where?",
    "answers": {"text": ["pier 3", "pier 3", "from pier 3"], "answer_start": [20, 20, 15]},
}
HOTPOT = {
    "id": "h1",
    "question": "Who sails the ferry of Norrholm?",
    "answer": "Ida Brask",
    "supporting_facts": {"title": ["Alma", "Norrholm", "Alma"], "sent_id": [0, 1, 1]},
    "context": {
        "title": ["Norrholm", "Alma", "Ruth"],
        "sentences": [["A town.", " It has a ferry."], ["Ida Brask sails her.", " She is green."], ["A trawler."]],
    },
}
RACE = {"example_id": "r1", "article": "A ferry.", "question": "What?", "options": ["A", "B", "C", "D"], "answer": "C"}


def written(name, rows, tmp_path):
    hub.write(hub.SETS[name], datasets.Dataset.from_list(rows), tmp_path / "set.jsonl")
    return rows_of(tmp_path / "set.jsonl")


def test_squad_keeps_each_answer_once(tmp_path):
    (row,) = written("squad", [SQUAD], tmp_path)
    assert row["answers"] == ["pier 3", "from pier 3"] and row["group"] == "Norrholm"
    assert row["text"] == SQUAD["context"]


def test_hotpotqa_s_text_is_its_supporting_sentences(tmp_path):
    (row,) = written("hotpotqa", [HOTPOT], tmp_path)
    assert row["text"] == "Alma: Ida Brask sails her. She is green.\nNorrholm: It has a ferry."
    assert row["answers"] == ["Ida Brask"]


def test_race_answers_with_the_option_s_text(tmp_path):
    (row,) = written("race", [RACE], tmp_path)
    assert row["answers"] == ["C"] and row["text"] == "A ferry."


def test_wikitext_s_headings_and_empty_lines_are_no_texts(tmp_path):
    rows = [{"text": " = Norrholm = \n"}, {"text": ""}, {"text": " A town on the sound .\n"}]
    assert written("wikitext2", rows, tmp_path) == [{"text": "A town on the sound ."}]


def test_an_unknown_set_is_refused_and_one_that_cannot_be_fetched_is_named(monkeypatch, tmp_path):
    with pytest.raises(Missing, match="wanted hf:squad, hf:hotpotqa"):
        hub.fetched("sqaud")
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", _offline)
    with pytest.raises(Refusal, match="hf:race could not be loaded: no network"):
        hub.fetched("race")
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_set_is_fetched_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path))
    splits = datasets.DatasetDict({"validation": datasets.Dataset.from_list([SQUAD])})
    hub.load_splits.cache_clear()
    monkeypatch.setattr(datasets, "load_dataset", lambda *asked, **more: splits)
    folder = hub.fetched("squad")
    hub.load_splits.cache_clear()
    monkeypatch.setattr(datasets, "load_dataset", _offline)
    assert hub.fetched("squad") == folder and len(rows_of(folder / "eval_squad.jsonl")) == 1


def _offline(*asked, **more):
    raise ConnectionError("no network")
