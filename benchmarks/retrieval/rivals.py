"""What the bank's ways of searching are compared with: BM25 and a sentence embedder, both over whole passages."""

from __future__ import annotations

import numpy as np

from benchmarks.retrieval.sets import Asked, Run
from pipeline.stems import hashes, words

BEST = 100  # passages that are measured


def by_bm25s(asked: Asked) -> Run:
    """With the stems that banks keep."""
    import bm25s

    stems = [[str(stem) for stem in hashes(words(text))] for text in asked.texts]
    scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    scorer.index(stems, show_progress=False)
    run = []
    for question in asked.questions:
        known = [stem for stem in map(str, hashes(words(question))) if stem in scorer.vocab_dict]
        run.append(_best(asked, scorer.get_scores(known) if known else np.zeros(len(stems))))
    return run


def by_embedder(asked: Asked) -> Run:
    """all-MiniLM-L6-v2, by cosine."""
    from model.training.teacher import Teacher

    teacher = Teacher()
    return [_best(asked, scores_P) for scores_P in teacher.embed(asked.questions) @ teacher.embed(asked.texts).T]


def _best(asked: Asked, scores_P: np.ndarray) -> dict[str, float]:
    return {asked.passage_ids[i]: float(scores_P[i]) for i in np.argsort(-scores_P)[:BEST]}
