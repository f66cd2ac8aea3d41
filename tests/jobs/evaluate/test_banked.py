"""A corpus in a bank is searched as the same corpus embedded here is. The bank is made without Ray."""

from __future__ import annotations

import numpy as np
import pytest
from harbour import PASSAGES
from works import Works, jsonl

from jobs.evaluate import banked
from jobs.evaluate.kept import Kept
from jobs.evaluate.sets import EvalSet, Query, Text
from jobs.evaluate.system import Opening
from jobs.evaluate.systems.codec import opened
from jobs.evaluate.tasks import retrieve
from jobs.evaluate.work import Work
from pipeline.bank.commit import commit
from pipeline.encode import encode_work


@pytest.fixture(scope="module")
def data():
    corpus = tuple(Text(f"p{i}", text) for i, (_, text, _, _) in enumerate(PASSAGES))
    corpus = (*corpus, Text("long", " ".join(text for _, text, _, _ in PASSAGES[:3])))  # of several chunks
    queries = tuple(
        Query(f"q{i}", question, frozenset({f"p{i}"}), tuple(f"p{j}" for j in range(i // 4 * 4, i // 4 * 4 + 4)))
        for i, (_, _, question, _) in enumerate(PASSAGES[:8])
    )
    return EvalSet("harbour", queries=(*queries, Query("q8", "herring", frozenset({"p8"}), None)), corpus=corpus)


@pytest.fixture(scope="module")
def system(tiny_codec_folder):
    return opened(str(tiny_codec_folder), tiny_codec_folder, Opening(precision="fp32"))[1]


@pytest.fixture(scope="module")
def bank(data, tiny_codec_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("banked")
    works = Works(folder, tiny_codec_folder, jsonl(folder / "c.jsonl", {each.id: each.text for each in data.corpus}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
        commit(works.bank, [works.encode().receipt])
    works.bank.reload()
    return works.bank


def test_a_bank_gives_the_figures_that_vectors_here_give(data, system, bank, tmp_path, monkeypatch):
    here = retrieve.measure(Work(Kept(None), lambda: None), system, data)
    monkeypatch.setattr(banked, "FROM", 10)
    monkeypatch.setattr(system, "bank", lambda corpus, folder: bank)
    there = retrieve.measure(Work(Kept(None), lambda: None, banks=tmp_path), system, data)
    for ours, theirs in zip(here.measured, there.measured, strict=True):
        assert (ours.metric, ours.at) == (theirs.metric, theirs.at)
        assert [v for v in ours.values if v is not None] == pytest.approx([v for v in theirs.values if v is not None])


def test_a_passage_of_several_chunks_stands_once_with_its_best(data, bank):
    asked_QE = np.random.default_rng(0).standard_normal((3, bank.identity.embedding_width)).astype(np.float32)
    asked_QE /= np.linalg.norm(asked_QE, axis=1, keepdims=True)
    for run in banked.runs(bank, asked_QE, 25):
        assert len(run) == 25 and list(run.values()) == sorted(run.values(), reverse=True)


@pytest.mark.ray
def test_an_encode_job_makes_the_bank_once(data, system, tmp_path):
    first, again = (system.bank(data.corpus, tmp_path) for _ in range(2))
    assert first.version == again.version and first.folder.uri == again.folder.uri
    names = {name for batch in first.rows(["doc_id"]) for name in batch.column(0).to_pylist()}
    assert names == {passage.id for passage in data.corpus}
