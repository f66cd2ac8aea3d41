"""An evaluation as a whole, with tiny systems: every task's figures are there, and what cannot be had is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from harbour import PASSAGES, lines

import nextmem
from jobs.evaluate.request import TASKS
from jobs.evaluate.results import read_results, write_results
from model.refusal import Refusal

TINY = {"backbone": "tiny-llama", "precision": "fp32", "draws": 200, "tokens": 192}
LONG = ("--tokens", 192, "--backbone", "tiny-llama")


@pytest.fixture
def figures(evaluated, tiny_codec_folder):
    """{(task, system, metric, at's values): figure}, systems by what they are."""
    short = {
        str(tiny_codec_folder): "nf4",
        f"{tiny_codec_folder} dense": "dense",
        f"{tiny_codec_folder} refined 2": "refined",
    }
    return {
        (f.task, short.get(f.system, f.system), f.metric, *(v for k, v in f.at.items() if k != "norm")): f
        for f in evaluated[0].figures
    }


def test_every_task_has_figures_and_nothing_failed(evaluated):
    assert {f.task for f in evaluated[0].figures} == set(TASKS)
    assert evaluated[0].faults == []


def test_text_memory_gives_everything_back(figures):
    for metric in ("f1", "whole", "bleu", "chrf", "edit", "rougeL", "names", "fidelity"):
        assert figures["reconstruct", "text", metric].value == pytest.approx(1)
    assert figures["reconstruct", "text", "patch_bytes"].value == 0


def test_an_untrained_codec_gives_nothing_back_and_stores_the_ids(figures):
    assert figures["reconstruct", "nf4", "whole"].value == 0
    assert figures["reconstruct", "nf4", "patch_bytes"].value > 16
    assert ("reconstruct", "dense", "patch_bytes") not in figures  # nothing stores them


def test_every_figure_is_the_mean_of_its_values_and_lies_in_its_interval(evaluated):
    results = evaluated[0]
    for f in results.figures:
        assert f.low <= f.value + 1e-9 and f.value <= f.high + 1e-9
        if f.metric != "gap":
            there = [v for v in f.values if v is not None]
            assert len(f.values) == len(results.items[f"{f.task}/{f.set}"]) and len(there) == f.n
            assert f.value == pytest.approx(sum(there) / f.n)


def test_recalled_text_answers_as_the_text_and_the_text_closes_the_gap(figures, evaluated):
    text, recalled = figures["answer", "reader", "nats", "text"], figures["answer", "nf4", "nats", "recalled"]
    assert recalled.values == pytest.approx(text.values)
    assert figures["answer", "nf4", "gap", "recalled"].value == pytest.approx(1)
    assert {f.at["from"] for f in evaluated[0].figures if f.task == "answer" and f.system != "reader"} == {
        "recalled", "decoded", "latents", "foreign",
    }  # fmt: skip


def test_latents_and_foreign_latents_are_read_in_one_prompt(figures):
    own, foreign = (figures["answer", "nf4", "nats", source] for source in ("latents", "foreign"))
    assert own.n == foreign.n == 6 and own.values != foreign.values


def test_words_find_more_than_an_untrained_codec_and_pools_are_apart(figures):
    for pool in ("question", "corpus"):
        assert figures["retrieve", "bm25", "mrr@5", pool].value > figures["retrieve", "nf4", "mrr@5", pool].value
    assert ("retrieve", "bm25", "ndcg@10", "question") not in figures


def test_noise_of_nought_is_reconstruction_over_all_sets_and_a_latent_can_be_left_out(figures, evaluated):
    noisy = [f for key, f in figures.items() if key[:3] == ("noise", "nf4", "f1")]
    assert noisy[0].at == {"sigma": 0.0, "norm": 0.0} and noisy[-1].at["norm"] > noisy[1].at["norm"] > 0
    assert noisy[0].value == pytest.approx(figures["reconstruct", "nf4", "f1"].value)
    kept = [f.at["latents"] for key, f in figures.items() if key[:3] == ("rate", "nf4", "f1")]
    assert kept == [1, 2, 3]
    assert figures["rate", "nf4", "f1", 3, *_rest(figures, "nf4")].values == noisy[0].values


def _rest(figures, system):
    at = next(f.at for key, f in figures.items() if key[:3] == ("rate", system, "f1") and f.at["latents"] == 3)
    return at["bits"], at["bytes"]


def test_what_a_system_cannot_do_is_said(evaluated):
    said = {
        (each["task"], each["system"].rpartition("/")[2], each["why"].rpartition("/")[2])
        for each in evaluated[0].absent
        if each["system"]
    }
    assert ("reconstruct", "bm25", "bm25 cannot decode or encode") in said
    assert ("noise", "text", "text keeps no latents that could be changed") in said
    assert any(task == "retrieve" and system.endswith("refined 2") for task, system, _ in said)
    assert any("BERTScore" in each["why"] for each in evaluated[0].absent)


def test_samples_show_text_and_draft_side_by_side_worst_first(evaluated):
    samples = [s for s in evaluated[0].samples if s.task == "reconstruct" and s.system == "text"]
    assert samples and all(s.original == s.made and s.f1 == 1 for s in samples)
    assert {s.original for s in samples} <= {text for _, text, _, _ in PASSAGES} | {text for _, text, _, _ in PASSAGES}


def test_the_results_can_be_read_back(evaluated, tmp_path):
    results, out = evaluated
    assert read_results(out / "results.json") == results
    made = results.made
    assert made["processor"] and made["versions"]["sacrebleu"] and made["prompt"]["after"].endswith("Answer:")
    write_results(results, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["format"] == 1
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(Refusal, match="torn"):
        read_results(tmp_path / "torn.json")


def test_a_second_run_encodes_nothing_and_finds_the_same(evaluated, harbour_folder, tiny_codec_folder, tmp_path):
    results, out = evaluated
    shutil.copytree(out, tmp_path / "out")  # the first one's folder is read by other tests
    asked = {"data": harbour_folder, "tasks": "all", "limit": 6, "refine": 2} | TINY | {"draws": 500}
    again = nextmem.evaluate([tiny_codec_folder, "text", "bm25"], out=tmp_path / "out", **asked)
    assert again.figures == results.figures
    costs = [system["costs"] for system in again.systems.values()]
    assert all(cost.get("encoded", 0) == cost.get("decoded", 0) == cost.get("embedded", 0) == 0 for cost in costs)


def test_one_encoding_serves_all_rows_and_tasks(evaluated, tiny_codec_folder):
    """6 texts, what the swaps and the eight lengths add, and no text twice."""
    systems = evaluated[0].systems
    dense, stored = systems[f"{tiny_codec_folder} dense"], systems[str(tiny_codec_folder)]
    assert dense["costs"]["encoded"] == stored["costs"]["encoded"] > 6
    assert systems[f"{tiny_codec_folder} refined 2"]["costs"]["encoded"] == 6
    assert systems[f"{tiny_codec_folder} refined 2"]["costs"]["encodes"] > 1


def test_differences_are_of_the_stored_row_against_every_other(evaluated, tiny_codec_folder):
    found = [d for d in evaluated[0].differences if d.task == "reconstruct" and d.metric == "f1"]
    assert {d.system for d in found} == {str(tiny_codec_folder)}
    (against_text,) = [d for d in found if d.other == "text"]
    assert against_text.high < 0 and against_text.n == 6


def test_the_command_prints_a_table_a_system_and_exits_with_nought(nextmem, tiny_codec_folder, harbour_folder):
    ran = nextmem("evaluate", tiny_codec_folder, "text", "--data", harbour_folder, "--limit", 3, *LONG)
    assert ran.code == 0, ran.err
    assert "set       harbour: 3 texts, text\n" in ran.out and "whole     100.0 % of texts come back whole" in ran.out
    assert "without a memory" in ran.out and "bytes (median)" in ran.out
    assert "harbour: 3 texts, 3 questions, 3 queries, " in ran.err


def test_the_command_emits_a_figure_a_line(nextmem, harbour_folder):
    ran = nextmem(
        "evaluate", "bm25", "--tasks", "retrieve", "--data", harbour_folder, "--json", "--backbone", "tiny-llama"
    )
    of = {(r["metric"], r["at"]["pool"]): r for r in ran.records}
    assert of["hit@5", "corpus"]["value"] > 0.8 and of["hit@5", "question"]["n"] == 24


def test_what_is_unknown_is_refused_and_the_known_is_named(refused, harbour_folder, tmp_path):
    base = ("--data", harbour_folder, "--backbone", "tiny-llama")
    assert "wanted default, untrained, text, bm25" in refused("evaluate", "icea", *base)
    assert "wanted reconstruct, retrieve, answer" in refused("evaluate", "text", "--tasks", "retreive", *base)
    assert "there is no set 'harbor'" in refused("evaluate", "text", "--sets", "harbor", *base)
    assert "no sets at" in refused("evaluate", "text", "--data", tmp_path, "--backbone", "tiny-llama")
    assert "lacks {context}" in refused("evaluate", "text", "--prompt", "What?", *base)


def test_a_set_that_fails_is_named_and_the_rest_goes_on(nextmem, tmp_path):
    lines(tmp_path / "good.jsonl", [{"text": text} for _, text, _, _ in PASSAGES[:3]])
    lines(tmp_path / "retrieval_bad" / "corpus.jsonl", [{"id": "p", "text": "Sea."}])
    lines(tmp_path / "retrieval_bad" / "queries.jsonl", [{"id": "q", "question": "What?"}])
    lines(tmp_path / "retrieval_bad" / "qrels.jsonl", [{"query_id": "q", "passage_id": "another", "score": 1}])
    ran = nextmem("evaluate", "text", "--data", tmp_path, "--backbone", "tiny-llama")
    assert ran.code == 1 and "good: 3 texts, text" in ran.out
    assert "failed: bad: " in ran.err and "no query with a gold passage in its corpus" in ran.err


def test_a_system_that_cannot_be_opened_is_named_and_the_rest_goes_on(nextmem, harbour_folder, tmp_path):
    arguments = (
        "--data",
        harbour_folder,
        "--limit",
        2,
        "--backbone",
        "tiny-llama",
        "--model",
        f"bge={tmp_path / 'gone'}",
    )
    ran = nextmem("evaluate", "bge", "text", *arguments)
    assert ran.code == 1 and "failed: bge: " in ran.err and "--model bge=FOLDER" in ran.err
    assert "harbour: 2 texts, text" in ran.out


def test_a_system_that_decodes_nothing_is_a_fault_and_has_its_figures(monkeypatch, nextmem, harbour_folder):
    monkeypatch.setattr("jobs.evaluate.systems.text.TextMemory.decode", lambda self, memories: [""] * len(memories))
    ran = nextmem("evaluate", "text", "--data", harbour_folder, *LONG)
    assert ran.code == 1 and "F1        0.0000" in ran.out
    assert "failed: reconstruct text harbour: text decodes nothing of harbour: every draft is empty" in ran.err


def test_a_killed_evaluation_goes_on_where_it_was(harbour_folder, tiny_codec_folder, tmp_path):
    """The first is killed as soon as it has kept something; the second makes what is missing and no more."""
    command = [sys.executable, "-m", "nextmem.cli", "evaluate", str(tiny_codec_folder), "--data", str(harbour_folder)]
    command += ["--tasks", "all", "--tokens", "192", "--backbone", "tiny-llama", "-o", str(tmp_path), "--refine", "30"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _memories(tmp_path):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
    assert _memories(tmp_path) >= 24 and not (tmp_path / "results.json").exists()
    asked = {"data": harbour_folder, "refine": 1} | TINY | {"precision": "auto"}
    results = nextmem.evaluate(tiny_codec_folder, out=tmp_path, **asked)
    assert results.systems[f"{tiny_codec_folder} dense"]["costs"].get("encoded", 0) == 0
    assert os.path.exists(tmp_path / "results.json")


def _memories(folder) -> int:
    if not (folder / "kept.sqlite").exists():
        return 0
    database = sqlite3.connect(f"file:{folder}/kept.sqlite?mode=ro", uri=True)
    try:
        return database.execute("select count(*) from kept where kind = 'memory'").fetchone()[0]
    except sqlite3.OperationalError:  # no table yet
        return 0
