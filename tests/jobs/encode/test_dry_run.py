"""`nextmem encode --dry-run`: what encoding would take, without Ray and without a trace. A chunk has 32 bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from works import ARTICLES, Works, jsonl

from jobs.cluster.session import Session
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.presence import Presence
from pipeline.encode import encode_work

CHUNKS = 14  # of ARTICLES
SAMPLES = Path(__file__).parents[3] / "samples" / "articles.jsonl"
GIVEN = ("--set", "chunks_per_second=2")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    import ray

    def refuse(*_, **__):
        raise AssertionError("a dry run starts no Ray")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(Session, "start", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")  # nor does it join a cluster


@pytest.fixture
def plan(nextmem, tiny_codec_folder):
    """plan(corpus, bank, ...): the record that `--dry-run --json` prints."""

    def run(corpus, bank, *more):
        codec = () if Path(bank, "_delta_log").exists() else ("--codec", tiny_codec_folder)
        ran = nextmem("encode", corpus, bank, "--dry-run", "--json", *codec, *more)
        assert (ran.code, ran.err) == (0, ""), ran
        (record,) = ran.records
        assert record.pop("event") == "plan"
        return record

    return run


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}


def test_where_the_sample_is_everything_chunks_and_tokens_are_exact(plan, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES)
    found = plan(corpus, tmp_path / "bank", *GIVEN)
    assert (found["documents"], found["chunks"], found["units"]) == (3, CHUNKS, 1)
    assert found["tokens"] == sum(len(text.encode()) for text in ARTICLES.values())


def test_a_sample_of_many_units_is_close(plan, tmp_path):
    texts = {f"doc-{n:02}": f"Document number {n}. " * (20 + n % 13) for n in range(60)}
    corpus = jsonl(tmp_path / "corpus.jsonl", texts)
    found = plan(corpus, tmp_path / "bank", *GIVEN, "--set", "unit_chunks=2")
    wanted = sum(-(-len(text) // 32) for text in texts.values())
    assert found["sampled_units"] == 8 < found["units"]
    assert found["chunks"] == pytest.approx(wanted, rel=0.1)
    assert found["chunks"] > 10 * sum(-(-len(text) // 512) for text in texts.values())  # what the plan guesses


def test_files_of_other_formats_are_counted(plan, nextmem, tmp_path):
    jsonl(tmp_path / "docs.jsonl", ARTICLES)
    (tmp_path / "rows.csv").write_text("id,text\n")
    assert plan(tmp_path, tmp_path.parent / f"{tmp_path.name}-bank", *GIVEN)["passed_over"] == {".csv": 1}


def test_hours_and_cost_follow_from_the_rate(plan, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES)
    found = plan(corpus, tmp_path / "bank", *GIVEN, "--set", "price_per_hour=36", "--actors", "3")
    assert found["device_hours"] == pytest.approx(CHUNKS / 2 / 3600)
    assert found["cost"] == pytest.approx(CHUNKS / 2 / 100)
    assert (found["rate_from"], found["workers"]) == ("as given", 1)  # there is one unit


def test_without_a_rate_this_machine_is_timed(plan, tmp_path):
    found = plan(jsonl(tmp_path / "corpus.jsonl", ARTICLES), tmp_path / "bank", "--set", "threads=1")
    assert found["rate_from"] == "measured now on this machine, 1 threads"
    assert found["chunks_per_second"] > 0 and found["cost"] is None


def test_a_bank_s_own_run_says_how_fast_it_was(plan, articles, tmp_path):
    bank = Bank.open(articles)
    folder = Bank.create(tmp_path / "bank", bank.identity, codec=bank.codec_path).folder
    with Presence(folder, "encode") as job:
        job.begin(encoded=400, seconds=10.0, workers=4, device="gpu")
    found = plan(jsonl(tmp_path / "corpus.jsonl", ARTICLES), folder.uri)
    assert found["chunks_per_second"] == 10.0
    assert found["rate_from"].startswith("measured by the bank's last run: 400 chunks on 4 gpu workers, ")


def test_nothing_is_written_for_a_new_bank_nor_into_one_that_is_there(plan, articles, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES | {"new": "A new document."})
    plan(corpus, tmp_path / "bank", *GIVEN)
    assert os.listdir(tmp_path) == ["corpus.jsonl"]
    before = listing(articles)
    plan(corpus, articles, *GIVEN)
    assert listing(articles) == before


def test_what_the_bank_holds_is_not_counted(plan, articles, tmp_path):
    texts = ARTICLES | {"new": "A new document.", "fox": "The fox has changed."}
    found = plan(jsonl(tmp_path / "corpus.jsonl", texts), articles, *GIVEN)
    assert (found["documents"], found["held"], found["replaced"], found["chunks"]) == (2, 2, 1, 2)


def test_a_corpus_that_the_bank_holds_takes_nothing(plan, articles, tmp_path):
    found = plan(jsonl(tmp_path / "corpus.jsonl", ARTICLES), articles)
    assert (found["units"], found["chunks"], found["bytes"], found["device_hours"]) == (0, 0, 0, None)


def test_the_bank_s_size_is_near_what_encoding_then_makes(plan, tmp_path, tiny_codec_folder, monkeypatch):
    rows = [json.loads(line) for line in SAMPLES.read_text().splitlines()[:8]]
    corpus = jsonl(tmp_path / "corpus.jsonl", {row["id"]: row["text"] for row in rows})
    found = plan(corpus, tmp_path / "new", *GIVEN)
    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    works = Works(tmp_path / "works", tiny_codec_folder, corpus)
    commit(works.bank, [works.encode().receipt])
    assert found["chunks"] == works.bank.count()
    assert found["bytes"] == pytest.approx(works.bank.stored_bytes(), rel=0.25)


def test_a_person_reads_it_as_a_table(nextmem, tiny_codec_folder, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES)
    common = ("--codec", tiny_codec_folder, *GIVEN, "--set", "price_per_hour=3600")
    out = nextmem("encode", corpus, tmp_path / "bank", "--dry-run", *common).out
    assert "documents  3 to encode, 0 held already, 0 to be replaced\n" in out
    tokens = sum(len(text.encode()) for text in ARTICLES.values())
    assert f"chunks     about 14 of {tokens} tokens, estimated from 14 in 1 units\n" in out
    assert "rate       2.0 chunks/s a worker, as given\n" in out
    assert "time       0.00194 device hours; 7 s on 1 workers\n" in out
    assert "cost       7.00 at 3,600.00 an hour and worker\n" in out


def test_a_corpus_that_is_not_there_is_refused(refused, tmp_path, tiny_codec_folder):
    where = tmp_path / "none.jsonl"
    assert "none.jsonl" in refused("encode", where, tmp_path / "bank", "--dry-run", "--codec", tiny_codec_folder)
