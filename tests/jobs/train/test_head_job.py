"""`nextmem train --system head`: from a bank with texts to a codec that has a head, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from works import Works, jsonl

from jobs.train import head as head_job
from jobs.train.head import HeadRequest, run_head
from jobs.train.pairs import queries_of
from jobs.train.taught import taught
from jobs.train.train import TrainRequest, _asked
from model.codec_io import load_codec
from pipeline.bank.commit import commit

PLACES = ("Oslo", "Kyoto", "Lima", "Quito", "Cairo", "Delhi", "Perth", "Turin", "Basel", "Porto", "Lagos", "Dakar")
TEXTS = {place: f"{place} has {n} bridges. Its ferry sails at {n}." for n, place in enumerate(PLACES)}


class Read:
    """In the teacher's place, whose weights are 90 MB: letters counted. What is taught is the same way."""

    seen = 0

    def embed(self, texts):
        Read.seen += len(texts)
        counts = np.zeros((len(texts), 384), np.float32)
        for row, text in zip(counts, texts, strict=True):
            np.add.at(row, np.frombuffer(text.encode(), np.uint8), 1)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.fixture
def bank(tmp_path, tiny_codec_folder, monkeypatch):
    """bank(**options): the texts, with titles and licences."""
    from pipeline.encode import encode_work

    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(head_job, "Teacher", Read)

    def make(**options):
        corpus = jsonl(tmp_path / "corpus.jsonl", TEXTS, title=list(TEXTS), license=["CC0"] * len(TEXTS))
        works = Works(tmp_path, tiny_codec_folder, corpus, metadata=("title", "license"), **options)
        commit(works.bank, [works.encode().receipt])
        return works.bank.folder.uri

    return make


def teach(bank, run, **settings):
    return run_head(HeadRequest(str(run), (bank,), {"steps": 4, "batch_size": 4, "held_out": 0.2, **settings}))


def test_a_bank_with_texts_becomes_a_codec_with_a_head(bank, tmp_path):
    made = teach(bank(keep_text=True), tmp_path / "run")
    codec = load_codec(made, device="cpu")
    assert codec.config.pooling == "head" and codec.embedding_width == 384
    assert codec.embed_queries([codec.tokenizer.encode("a ferry")]).shape == (1, 384)
    told = (made / "HEAD.md").read_text()
    assert "| CC0 | 14 | 0 |" in told and "all-MiniLM-L6-v2" in told and "steps=4" in told
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 3 and rows[-1]["passages"] >= 2


def test_the_teacher_reads_once_and_a_finished_run_stays(bank, tmp_path):
    made, Read.seen = bank(keep_text=True), 0
    first = teach(made, tmp_path / "run")
    read, said = Read.seen, []
    assert read > 24
    first.rename(tmp_path / "kept")
    teach(made, tmp_path / "run", steps=2)
    assert Read.seen == read
    run_head(HeadRequest(str(tmp_path / "run"), (made,), {}), say=said.append)
    assert "is taught to its end" in said[0]


def test_a_bank_without_texts_and_none_at_all_are_refused(bank, tmp_path):
    with pytest.raises(ValueError, match="no chunk of 12 tokens keeps its text"):
        teach(bank(), tmp_path / "run")
    with pytest.raises(ValueError, match="name a bank of passages with --data"):
        run_head(HeadRequest(str(tmp_path / "run"), ()))
    assert not (tmp_path / "run").exists()


def test_a_file_of_texts_teaches_the_queries_side_without_being_encoded(bank, tmp_path):
    """Two of its three texts are not in the bank."""
    made, texts = bank(keep_text=True), {"Oslo": TEXTS["Oslo"], "Quay": "The quay is old. Its stones are worn."}
    file = jsonl(tmp_path / "more.jsonl", texts | {"Pier": "The pier is new. It has a lamp."}, license=["CC0"] * 3)
    settings = {"steps": 2, "batch_size": 4, "held_out": 0.2}
    told = (run_head(HeadRequest(str(tmp_path / "run"), (made, str(file)), settings)) / "HEAD.md").read_text()
    assert "| CC0 | 14 | 2 |" in told and "and of 2 further ones" in told
    none = {**settings, "further_texts": 0}
    told = (run_head(HeadRequest(str(tmp_path / "alone"), (made, str(file)), none)) / "HEAD.md").read_text()
    assert "| CC0 | 14 | 0 |" in told


def test_a_teacher_that_is_killed_goes_on_behind_its_last_part(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.train.taught.PART", 2)
    read: list[str] = []

    def die_at_the_third(texts):
        if len(read) >= 2:
            raise KeyboardInterrupt
        read.extend(texts)
        return Read().embed(texts)

    with pytest.raises(KeyboardInterrupt):
        taught(["a", "b", "c"], tmp_path / "teacher", die_at_the_third)
    again = taught(["c", "b", "a"], tmp_path / "teacher", lambda texts: read.extend(texts) or Read().embed(texts))
    assert read == ["a", "b", "c"] and np.allclose(again, Read().embed(["c", "b", "a"]))


def test_the_command_teaches_and_knows_its_settings(nextmem, refused, bank, tmp_path):
    made = bank(keep_text=True)
    said = refused("train", tmp_path / "run", "--system", "head", "--data", made, "--set", "stages=1")
    assert "wanted KEY=VALUE with one of the keys batch_size, contrast, dropped" in said
    ran = nextmem("train", tmp_path / "run", "--system", "head", "--data", made, "--set", "steps=2")
    assert ran.code == 0 and ran.out.strip().endswith("run/codec") and "found first" in ran.err


def test_queries_are_made_of_the_passage_alone():
    text = "Yeast eats sugar in dough. It gives off carbon dioxide gas. The gas makes the bread rise."
    queries = queries_of(text, "Bread", np.random.default_rng(0))
    assert queries[0] == "Yeast eats sugar in dough." and "Bread" in queries
    assert "carbon dioxide gas. The gas makes the bread rise." in queries  # the second half
    made = {word.strip(".").lower() for query in queries for word in query.split()} - {"bread"}
    assert made <= {word.strip(".").lower() for word in text.split()}


def test_a_passage_of_one_word_has_a_query_and_none_is_the_passage_itself():
    assert queries_of("Constantinople", None, np.random.default_rng(0)) == []
    assert queries_of("old Constantinople", "", np.random.default_rng(0)) == ["Constantinople"]


def test_a_run_that_starts_from_a_codec_with_a_head_trains_one_without(bank, tmp_path):
    """Its latents will be others, which the head has not seen."""
    start = teach(bank(keep_text=True), tmp_path / "run")
    asked = _asked(TrainRequest("new", data=("passages.jsonl",), init=str(start)), None, tmp_path / "new")
    assert asked.codec.pooling == "mean-standardised" and load_codec(start, device="cpu").config.pooling == "head"
