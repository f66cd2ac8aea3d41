"""Retrieval's figures are ir-measures' own, in the pool of a question and in the whole corpus apart."""

from __future__ import annotations

from typing import ClassVar

import ir_measures
import numpy as np
import pytest

from jobs.evaluate.kept import Kept
from jobs.evaluate.sets import EvalSet, Query, Text
from jobs.evaluate.system import Opening
from jobs.evaluate.systems.bm25 import opened
from jobs.evaluate.tasks.retrieve import CORPUS, judged, measure, scored
from jobs.evaluate.work import Work

QUERIES = (
    Query("q0", "herring", frozenset({"p1"}), ("p0", "p1", "p2")),
    Query("q1", "tower", frozenset({"p0", "p4"}), None),
)


def test_figures_counted_by_hand():
    """q0's passage is third; of q1's two, one is first and one is not among the ten."""
    runs = [{"p5": 3.0, "p6": 2.0, "p1": 1.0}, {"p0": 9.0, **{f"x{i}": 8.0 - i for i in range(10)}, "p4": -5.0}]
    found = {each.metric: each.values for each in judged(QUERIES, runs, CORPUS, {})}
    assert found["hit@1"] == [0, 1] and found["hit@5"] == [1, 1]
    assert found["mrr@5"] == [pytest.approx(1 / 3), 1]
    assert found["recall@5"] == [1, 0.5] and found["recall@10"] == [1, 0.5]
    ideal = 1 + 1 / np.log2(3)
    assert found["ndcg@10"] == [pytest.approx(1 / np.log2(4)), pytest.approx(1 / ideal)]


def test_a_query_without_a_pool_has_no_value_and_does_not_count():
    found = judged(QUERIES, [{"p0": 1.0}, None], ("hit@1", "mrr@5"), {})
    assert [each.values for each in found] == [[0, None], [0, None]]


def test_means_are_those_of_ir_measures():
    rng = np.random.default_rng(3)
    queries = [Query(f"q{i}", "", frozenset({f"p{i}", f"p{i + 1}"}), None) for i in range(30)]
    runs = [{f"p{j}": float(score) for j, score in enumerate(rng.random(40))} for _ in queries]
    found = judged(queries, runs, CORPUS, {})
    wanted = [ir_measures.parse_measure(m) for m in ("Success@5", "R@10", "RR@5", "nDCG@10")]
    qrels = {q.id: dict.fromkeys(q.gold, 1) for q in queries}
    means = ir_measures.calc_aggregate(wanted, qrels, {q.id: run for q, run in zip(queries, runs, strict=True)})
    ours = {each.metric: np.mean(each.values) for each in found}
    mine = [ours[m] for m in ("hit@5", "recall@10", "mrr@5", "ndcg@10")]
    assert mine == pytest.approx([means[m] for m in wanted], abs=1e-6)


def test_pool_and_corpus_are_figures_apart():
    """The word stands in p3 twice, but p3 is not of the question's pool."""
    texts = ["A tall tower.", "Herring in salt.", "Eels in smoke.", "Herring and herring.", "A tower."]
    data = EvalSet("fish", queries=QUERIES, corpus=tuple(Text(f"p{i}", text) for i, text in enumerate(texts)))
    (bm25,) = opened("bm25", None, Opening())
    found = {(each.metric, each.at["pool"]): each.values for each in measure(_work(), bm25, data).measured}
    assert found["hit@1", "question"] == [1, None]
    assert found["hit@1", "corpus"] == [0, 1] and found["mrr@5", "corpus"][0] == 0.5


def test_a_passage_of_several_chunks_counts_by_its_best_and_an_empty_one_is_never_found():
    class Fixed:
        name, identity, base, batch, can = "fixed", "fixed", None, 8, frozenset({"embed"})
        vectors: ClassVar = {
            "query": [[1.0, 0.0]], "two": [[0.0, 1.0], [0.8, 0.6]], "one": [[0.6, 0.8]], "none": np.zeros((0, 2)),
        }  # fmt: skip

        def embed(self, texts, *, query=False):
            return [np.array(self.vectors[text], dtype=np.float32) for text in texts]

    data = EvalSet(
        "three",
        queries=(Query("q", "query", frozenset({"a"}), None),),
        corpus=(Text("a", "two"), Text("b", "none"), Text("c", "one")),
    )
    assert scored(_work(), Fixed(), data)[0].tolist() == [pytest.approx(0.8), -np.inf, pytest.approx(0.6)]


def _work() -> Work:
    return Work(Kept(None), lambda: None)


def test_a_search_by_words_logs_nothing(caplog):
    (bm25,) = opened("bm25", None, Opening())
    bm25.rank(["herring"], ["Herring in salt.", "Eels in smoke."])
    assert caplog.records == []
