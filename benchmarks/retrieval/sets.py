"""A set: passages, queries of them and which passages answer each; whole, or cut to fewer passages.

    python -m benchmarks.retrieval.sets DATA/retrieval_nq DATA/retrieval_squad --passages 500 --out sets

A set is a folder with corpus.parquet (id, text), queries.parquet (id, question) and qrels.parquet (query_id,
passage_id, score). Cut, it keeps the answers of some queries, and other passages by lot. Fewer passages are easier to
search: a figure of a cut set says its size. Lots are drawn by the ids' hashes, so a larger cut holds a smaller one's
queries.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ir_measures
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PARTS = ("corpus", "queries", "qrels")
MEASURES = {
    "Hit@5": ir_measures.Success @ 5,
    "MRR@5": ir_measures.RR @ 5,
    "nDCG@10": ir_measures.nDCG @ 10,
    "recall@10": ir_measures.R @ 10,
}
Run = list[dict[str, float]]  # of each query: a passage's id to its score


@dataclass(frozen=True, slots=True)
class Asked:
    """A set with the queries that are asked of it."""

    name: str
    passage_ids: list[str]
    texts: list[str]
    query_ids: list[str]
    questions: list[str]
    qrels: list[ir_measures.Qrel]

    def measured(self, run: Run) -> dict[str, float]:
        """The mean of each measure over the queries."""
        scored = [
            ir_measures.ScoredDoc(query_id, passage, score)
            for query_id, found in zip(self.query_ids, run, strict=True)
            for passage, score in found.items()
        ]
        figures = ir_measures.calc_aggregate(list(MEASURES.values()), self.qrels, scored)
        return {name: float(figures[measure]) for name, measure in MEASURES.items()}

    def half(self, first: bool) -> tuple[Asked, list[int]]:
        """Every other query: the first half chooses, the second reports. And which queries they are."""
        places = list(range(0 if first else 1, len(self.query_ids), 2))
        ids = {self.query_ids[place] for place in places}
        return replace(
            self,
            query_ids=[self.query_ids[place] for place in places],
            questions=[self.questions[place] for place in places],
            qrels=[qrel for qrel in self.qrels if qrel.query_id in ids],
        ), places


def load(folder: Path, count: int) -> Asked:
    """The set, with `count` of its queries by lot; the same ones each time."""
    corpus, queries, qrels = (pq.read_table(folder / f"{name}.parquet").to_pylist() for name in PARTS)
    queries = sorted(queries, key=lambda row: _lot(row["id"]))[:count]
    chosen = {row["id"] for row in queries}
    return Asked(
        folder.name.removeprefix("retrieval_"),
        [row["id"] for row in corpus],
        [row["text"] for row in corpus],
        [row["id"] for row in queries],
        [row["question"] for row in queries],
        [ir_measures.Qrel(r["query_id"], r["passage_id"], int(r["score"])) for r in qrels if r["query_id"] in chosen],
    )


def cut(folder: Path, out: Path, passages: int, queries: int) -> tuple[int, int]:
    """Write the set with so many passages and queries at most; how many they became."""
    corpus, asked, qrels = (pq.read_table(folder / f"{name}.parquet") for name in PARTS)
    chosen, kept = _answered(asked["id"].to_pylist(), qrels.to_pylist(), passages, queries)
    others = (name for name in sorted(corpus["id"].to_pylist(), key=_lot) if name not in kept)
    kept |= {name for name, _ in zip(others, range(passages - len(kept)), strict=False)}
    out.mkdir(parents=True, exist_ok=True)
    for name, table, column, ids in (
        ("corpus", corpus, "id", kept),
        ("queries", asked, "id", chosen),
        ("qrels", qrels, "query_id", chosen),
    ):
        pq.write_table(table.filter(pc.is_in(table[column], pa.array(sorted(ids)))), out / f"{name}.parquet")
    return len(kept), len(chosen)


def _answered(query_ids: list[str], qrels: list[dict], passages: int, queries: int) -> tuple[set[str], set[str]]:
    """Queries by lot, and the passages that answer them, as long as these fit."""
    answers: dict[str, set[str]] = {}
    for row in qrels:
        answers.setdefault(row["query_id"], set()).add(row["passage_id"])
    chosen: set[str] = set()
    kept: set[str] = set()
    for query in sorted(query_ids, key=_lot):
        if len(chosen) == queries or len(kept | answers.get(query, set())) > passages:
            break
        if query in answers:
            chosen.add(query)
            kept |= answers[query]
    return chosen, kept


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders of whole sets")
    parser.add_argument("--out", required=True, type=Path, help="a folder for the cut ones")
    parser.add_argument("--passages", type=int, default=500, help="of each set; default: %(default)s")
    parser.add_argument("--queries", type=int, default=200, help="of each set at most; default: %(default)s")
    asked = parser.parse_args(arguments)
    for folder in asked.sets:
        passages, queries = cut(folder, asked.out / folder.name, asked.passages, asked.queries)
        print(f"{asked.out / folder.name}: {passages:,} passages, {queries:,} queries")


if __name__ == "__main__":
    main()
