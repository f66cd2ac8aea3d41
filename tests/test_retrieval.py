"""The retrieval benchmark: sets cut to fewer passages, halves that choose and report, the weight that is chosen."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.retrieval.__main__ import CHOOSES, REPORTS, choose, measured
from benchmarks.retrieval.sets import cut, load
from benchmarks.retrieval.ways import WEIGHTS, both, by_places
from pipeline.bank.search import Hit

PASSAGES, QUERIES = [f"p{n}" for n in range(12)], [f"q{n}" for n in range(6)]


@pytest.fixture
def whole(tmp_path):
    """A set: query n is answered by passages 2n and 2n + 1."""
    folder = tmp_path / "retrieval_small"
    folder.mkdir()
    answers = [(query, PASSAGES[2 * n + side]) for n, query in enumerate(QUERIES) for side in (0, 1)]
    tables = {
        "corpus": {"id": PASSAGES, "text": [f"text of {name}" for name in PASSAGES]},
        "queries": {"id": QUERIES, "question": [f"question {name}" for name in QUERIES]},
        "qrels": {"query_id": [q for q, _ in answers], "passage_id": [p for _, p in answers], "score": [1] * 12},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def test_a_cut_keeps_all_answers_of_its_queries_and_fills_up_with_others(whole, tmp_path):
    assert cut(whole, tmp_path / "retrieval_cut", passages=7, queries=2) == (7, 2)
    asked = load(tmp_path / "retrieval_cut", 10)
    assert {qrel.doc_id for qrel in asked.qrels} < set(asked.passage_ids) and len(asked.qrels) == 4
    assert len(asked.passage_ids) == 7 and asked.texts[0] == f"text of {asked.passage_ids[0]}"


def test_a_larger_cut_asks_what_a_smaller_one_asks(whole, tmp_path):
    for size in (4, 8):
        cut(whole, tmp_path / f"retrieval_{size}", passages=size, queries=10)
    small, large = (set(load(tmp_path / f"retrieval_{size}", 10).query_ids) for size in (4, 8))
    assert (len(small), len(large)) == (2, 4) and small < large


def test_each_query_either_chooses_or_reports(whole):
    asked = load(whole, 6)
    (chooses, first), (reports, second) = asked.half(True), asked.half(False)
    assert sorted(first + second) == list(range(6)) and not set(chooses.query_ids) & set(reports.query_ids)
    perfect = [{q.doc_id: 1.0 for q in asked.qrels if q.query_id == query} for query in asked.query_ids]
    perfect[first[0]] = {}
    figures = measured(asked, {"a way": perfect})
    assert figures[REPORTS]["a way"]["nDCG@10"] == 1.0
    assert figures[CHOOSES]["a way"]["nDCG@10"] == pytest.approx(2 / 3)


def test_the_weight_is_the_best_on_the_mean_of_the_sets_by_what_chooses():
    def figures(best, height):
        ways = {
            both("mean", fusion, weight): {"nDCG@10": height if weight == best else 0.1}
            for fusion in ("scores", "places")
            for weight in WEIGHTS
        }
        return {CHOOSES: {"mean": {}} | ways, REPORTS: {}}

    chosen = choose({"one": figures(0.1, 0.9), "other": figures(0.4, 0.5)})
    assert chosen == {"mean": {"scores": 0.1, "places": 0.1}}


def test_weighted_places_are_counted_as_by_hand():
    near, far = (Hit(name, name, 0, "", 0, 1, 0.0) for name in ("near", "far"))
    found = by_places([near, far], [far], 0.25)
    assert [(hit.chunk_id, hit.score) for hit in found] == [
        ("far", pytest.approx(0.25 / 62 + 0.75 / 61)),
        ("near", pytest.approx(0.25 / 61)),
    ]
