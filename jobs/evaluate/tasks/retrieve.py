"""Retrieval, twice: among the passages of one question (the paper's pool), and in the whole corpus of the set.

The two are never one figure. In the pool of a question there are few passages, and `top min(5, n)` of them count; the
corpus is what a bank is searched in. A passage of several chunks counts by its best one.
Shapes: Q queries, P passages, C vectors of one text, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jobs.evaluate import banked
from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.sets import EvalSet, Query
from jobs.evaluate.system import System
from jobs.evaluate.work import Work
from model.refusal import Refusal

NEEDS = frozenset({"embed", "rank"})  # one of them
MIXED = False
HAS = "queries"
CORPUS = ("hit@1", "hit@5", "hit@10", "recall@5", "recall@10", "mrr@5", "mrr@10", "ndcg@10")
POOL = ("hit@1", "hit@5", "recall@5", "mrr@5")
MOST = 100  # passages of a run that are ranked
POOL_MOST = 5  # of a pool: the paper's top min(5, n)
SPELT = {"hit": "Success", "recall": "R", "mrr": "RR", "ndcg": "nDCG"}  # in ir-measures


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    """Figures over the corpus, and over the pools of those queries that have one."""
    large = "bank" in system.can and work.banks is not None and len(data.corpus) >= banked.FROM
    whole, pools = (_from_a_bank if large else _from_scores)(work, system, data)
    measured = judged(data.queries, whole, CORPUS, {"pool": "corpus"})
    absent = []
    if any(pool is not None for pool in pools):
        measured += judged(data.queries, pools, POOL, {"pool": "question"})
    else:
        absent.append(("pool", f"{data.name} does not say which passages belong to a question"))
    return Outcome([query.id for query in data.queries], measured, absent=absent)


Runs = list[dict[str, float]]  # a query's passages and scores
Pools = list[dict[str, float] | None]


def _from_scores(work: Work, system: System, data: EvalSet) -> tuple[Runs, Pools]:
    scores_QP = scored(work, system, data)
    names = [passage.id for passage in data.corpus]
    place = {name: i for i, name in enumerate(names)}
    whole = [dict(_best(scores_P, names, range(len(names)), MOST)) for scores_P in scores_QP]
    pools = [
        None if query.pool is None else dict(_best(scores_P, names, [place[n] for n in query.pool], POOL_MOST))
        for query, scores_P in zip(data.queries, scores_QP, strict=True)
    ]
    return whole, pools


def _from_a_bank(work: Work, system: System, data: EvalSet) -> tuple[Runs, Pools]:
    asked_QE = _asked(work, system, data)
    bank = system.bank(data.corpus, work.banks)
    return banked.runs(bank, asked_QE, MOST), banked.pools(bank, data.queries, asked_QE, POOL_MOST)


def _asked(work: Work, system: System, data: EvalSet) -> np.ndarray:
    """float32 [Q, E]."""
    vectors = work.vectors(system, [query.question for query in data.queries], query=True)
    return np.stack([vectors_CE.mean(axis=0) for vectors_CE in vectors]).astype(np.float32)


def scored(work: Work, system: System, data: EvalSet) -> np.ndarray:
    """float32 [Q, P]: cosines of the best chunk, or a ranker's own scores."""
    passages = [passage.text for passage in data.corpus]
    if "rank" in system.can:
        return system.rank([query.question for query in data.queries], passages)
    asked_QE = _asked(work, system, data)
    vectors = work.vectors(system, passages, query=False)
    counts = [len(each) for each in vectors]
    cosines_QN = asked_QE @ np.concatenate(vectors).T
    starts = np.cumsum([0, *counts[:-1]])
    best_QP = np.full((len(asked_QE), len(passages)), -np.inf, dtype=np.float32)
    there = np.flatnonzero(counts)
    best_QP[:, there] = np.maximum.reduceat(cosines_QN, starts[there], axis=1)
    return best_QP


def judged(
    queries: Sequence[Query], runs: Sequence[dict[str, float] | None], metrics: Sequence[str], at: dict[str, object]
) -> list[Measured]:
    """A value a query by each metric, as ir-measures counts it; None for a query without a run."""
    try:
        import ir_measures
    except ModuleNotFoundError:
        raise Refusal("retrieval needs the package ir-measures: pip install 'nextmem[evaluate]'") from None
    asked = [(query, run) for query, run in zip(queries, runs, strict=True) if run is not None]
    qrels = {query.id: dict.fromkeys(query.gold, 1) for query, _ in asked}
    parsed = {name: ir_measures.parse_measure(_spelt(name)) for name in metrics}
    found = {
        (str(each.measure), each.query_id): each.value
        for each in ir_measures.iter_calc(list(parsed.values()), qrels, {query.id: run for query, run in asked})
    }
    return [
        Measured(
            name,
            [None if run is None else found[(str(parsed[name]), q.id)] for q, run in zip(queries, runs, strict=True)],
            at,
        )
        for name in metrics
    ]


def _spelt(metric: str) -> str:
    name, _, depth = metric.partition("@")
    return f"{SPELT[name]}@{depth}"


def _best(scores_P: np.ndarray, names: Sequence[str], among: Sequence[int], most: int) -> list[tuple[str, float]]:
    among = np.asarray(among)
    order = np.argsort(-scores_P[among], kind="stable")[:most]
    return [(names[i], float(scores_P[i])) for i in among[order]]
