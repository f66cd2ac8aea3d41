"""What each way of searching finds: latents by their mean or a head, words, both, BM25 and a sentence embedder.

    nextmem encode SET/corpus.parquet BANKS/NAME --no-verify --keep-text --keep-words
    python -m benchmarks.retrieval --sets .../retrieval_nq,.../retrieval_squad --banks BANKS --head RUN/codec

A set is a folder with corpus.parquet (id, text), queries.parquet (id, question) and qrels.parquet (query_id,
passage_id, score); its bank is BANKS/NAME, where the set is retrieval_NAME. Every query is asked of the whole corpus.
A passage is as near as its nearest chunk. Shapes: Q queries, N chunks, K latents, E embedding width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.harness import Report, options
from jobs.train.head import standardised
from model.codec import Codec
from model.codec_head import latents_identity
from model.codec_io import load_codec
from pipeline.bank.bank import Bank
from pipeline.bank.find import fuse, ranked
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.search import PLACE, Hit, embed_queries
from pipeline.bank.word_search import nearest_by_words
from pipeline.schema import CODES, EMBEDDING, SCALES
from pipeline.stems import hashes, words

DEPTH = 300  # chunks that a side brings
BEST = 100  # passages that are measured
AT_ONCE = 32  # queries embedded together
PREFIX = 8  # latents, of the columns that take fewer
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
        scored = [
            ir_measures.ScoredDoc(query_id, passage, score)
            for query_id, found in zip(self.query_ids, run, strict=True)
            for passage, score in found.items()
        ]
        figures = ir_measures.calc_aggregate(list(MEASURES.values()), self.qrels, scored)
        return {name: float(figures[measure]) for name, measure in MEASURES.items()}


@dataclass(frozen=True, slots=True)
class Chunks:
    """A bank's rows in memory."""

    hits: list[Hit]  # where each is; scores are set anew
    embedding_NE: np.ndarray
    latents_NKD: torch.Tensor  # standardised, as NF4 holds them


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--sets", required=True, help="folders, with commas between")
    parser.add_argument("--banks", required=True, help="a folder of banks")
    parser.add_argument("--head", help="a codec folder with a head on the banks' codec")
    parser.add_argument("--queries", type=int, default=200, help="of each set, by lot; default: %(default)s")
    arguments = parser.parse_args()
    report = Report("retrieval", arguments.json, queries=arguments.queries, head=arguments.head)
    torch.set_num_threads(1)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for folder in arguments.sets.split(","):
        asked = load(Path(folder), arguments.queries)
        bank = open_bank(f"{arguments.banks}/{asked.name}")
        for system, run in runs(asked, bank, arguments.head).items():
            table.setdefault(system, {})[asked.name] = figures = asked.measured(run)
            told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            report.line(f"{asked.name} ({len(asked.passage_ids):,} passages): {system}", told)
    for measure in MEASURES:
        print(f"\n| {measure} | {' | '.join(next(iter(table.values())))} | mean |")
        for system, figures in table.items():
            values = [figures[name][measure] for name in figures]
            print(f"| {system} | {' | '.join(f'{value:.3f}' for value in values)} | {np.mean(values):.3f} |")
    report.figures["table"] = table
    report.close()


def load(folder: Path, count: int) -> Asked:
    """The set, with `count` of its queries; the same ones each time."""
    read = [pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("corpus", "queries", "qrels")]
    corpus, queries, qrels = read
    queries = sorted(queries, key=lambda row: hashlib.sha256(row["id"].encode()).digest())[:count]
    chosen = {row["id"] for row in queries}
    return Asked(
        folder.name.removeprefix("retrieval_"),
        [row["id"] for row in corpus],
        [row["text"] for row in corpus],
        [row["id"] for row in queries],
        [row["question"] for row in queries],
        [ir_measures.Qrel(r["query_id"], r["passage_id"], int(r["score"])) for r in qrels if r["query_id"] in chosen],
    )


def runs(asked: Asked, bank: Bank, head_folder: str | None) -> dict[str, Run]:
    codec = load_bank_codec(bank)
    chunks = read_chunks(bank, codec)
    batches = [asked.questions[first : first + AT_ONCE] for first in range(0, len(asked.questions), AT_ONCE)]
    queries_QE = np.concatenate([embed_queries(codec, batch) for batch in batches])
    sides = {"mean": by_vectors(chunks.hits, chunks.embedding_NE, queries_QE)}
    for name, latents_NKD in {"mean, NF4": chunks.latents_NKD, "mean, NF4, 8": chunks.latents_NKD[:, :PREFIX]}.items():
        sides[name] = by_vectors(chunks.hits, latents_NKD.mean(dim=1).numpy(), queries_QE)
    if head_folder is not None:
        sides |= by_head(asked, chunks, head_of_bank(head_folder, bank, codec))
    by_words = [nearest_by_words(bank, question, DEPTH) for question in asked.questions]
    sides["words"] = by_words
    for name in [name for name in ("mean", "head") if name in sides]:
        pairs = zip(sides[name], by_words, strict=True)
        sides[f"both: {name}, words"] = [fuse(ranked(latents), found) for latents, found in pairs]
    found = {name: [passages(hits) for hits in each] for name, each in sides.items()}
    return found | {"BM25 (bm25s)": by_bm25s(asked), "MiniLM": by_teacher(asked)}


def head_of_bank(folder: str, bank: Bank, codec: Codec) -> Codec:
    if latents_identity(folder) != codec.identity:
        raise SystemExit(f"{folder} has a head for the latents of {latents_identity(folder)}, not of {codec.identity}")
    return load_codec(folder, backbone=codec.backbone)


def by_head(asked: Asked, chunks: Chunks, codec: Codec) -> dict[str, list[list[Hit]]]:
    ids = [codec.tokenizer.encode(question) for question in asked.questions]
    queries_QE = codec.embed_queries(ids).numpy()
    found = {}
    for name, latents_NKD in {"head": chunks.latents_NKD, "head, 8": chunks.latents_NKD[:, :PREFIX]}.items():
        rows = [codec.head.embed_latents(part) for part in latents_NKD.split(512)]
        found[name] = by_vectors(chunks.hits, torch.cat(rows).numpy(), queries_QE)
    return found


def read_chunks(bank: Bank, codec: Codec) -> Chunks:
    hits, embeddings, latents = [], [], []
    for batch in bank.rows([*PLACE, EMBEDDING, CODES, SCALES]):
        hits += [Hit(**place, score=0.0) for place in batch.select(PLACE).to_pylist()]
        embeddings.append(batch.column(EMBEDDING).flatten().to_numpy().reshape(batch.num_rows, -1))
        latents.append(standardised(batch, codec))
    return Chunks(hits, np.concatenate(embeddings), torch.cat(latents))


def by_vectors(places: Sequence[Hit], rows_NE: np.ndarray, queries_QE: np.ndarray) -> list[list[Hit]]:
    """The nearest chunks of each query by cosine."""
    scores_QN = _unit(queries_QE) @ _unit(rows_NE).T
    best_Qk = np.argsort(-scores_QN, axis=1)[:, :DEPTH]
    return [
        [_scored(places[row], scores_N[row]) for row in best_k]
        for scores_N, best_k in zip(scores_QN, best_Qk, strict=True)
    ]


def by_bm25s(asked: Asked) -> Run:
    """Over whole passages, with the stems that banks keep."""
    import bm25s

    stems = [[str(stem) for stem in hashes(words(text))] for text in asked.texts]
    scorer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    scorer.index(stems, show_progress=False)
    run = []
    for question in asked.questions:
        known = [stem for stem in map(str, hashes(words(question))) if stem in scorer.vocab_dict]
        scores = scorer.get_scores(known) if known else np.zeros(len(stems))
        run.append({asked.passage_ids[i]: float(scores[i]) for i in np.argsort(-scores)[:BEST]})
    return run


def by_teacher(asked: Asked) -> Run:
    from model.training.teacher import Teacher

    teacher = Teacher()
    scores_QN = teacher.embed(asked.questions) @ teacher.embed(asked.texts).T
    return [{asked.passage_ids[i]: float(row[i]) for i in np.argsort(-row)[:BEST]} for row in scores_QN]


def passages(hits: Sequence[Hit]) -> dict[str, float]:
    """Each passage's best chunk."""
    best: dict[str, float] = {}
    for hit in hits:
        if len(best) < BEST:
            best.setdefault(hit.doc_id, hit.score)
    return best


def _scored(place: Hit, score: float) -> Hit:
    return Hit(*(getattr(place, name) for name in PLACE), score=float(score))


def _unit(vectors_NE: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.divide(vectors_NE, norms, out=np.zeros_like(vectors_NE), where=norms > 0)


if __name__ == "__main__":
    main()
