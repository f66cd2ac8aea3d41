"""A bank's ways of searching: its latents in several forms, by their mean or a head; its words; both, by each weight.

Forms: NF4, as the bank holds them; their first 8; `dense`, encoded anew and not quantised; `refined`, of a second bank
that was encoded with --refine. Shapes: Q queries, N chunks, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.retrieval.rivals import BEST
from benchmarks.retrieval.sets import Asked, Run
from jobs.train.head import standardised
from model.codec import Codec
from model.config import MEAN
from pipeline.bank.bank import Bank
from pipeline.bank.find import fuse, ranked
from pipeline.bank.search import PLACE, Hit, embed_queries
from pipeline.bank.word_search import nearest_by_words
from pipeline.schema import CODES, SCALES, TEXT

DEPTH = 100  # chunks that a side brings, as a search by both has it
AT_ONCE = 32  # queries, or chunks, together
PREFIX = 8  # latents, of the form that takes fewer
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
DAMPING = 60  # of reciprocal rank fusion
Found = list[list[Hit]]  # of each query, best first


@dataclass(frozen=True, slots=True)
class Chunks:
    """A bank's rows in memory."""

    hits: list[Hit]  # where each is; scores are set anew
    texts: list[str]
    latents_NKD: torch.Tensor  # standardised, as NF4 holds them


def ways(
    asked: Asked, bank: Bank, codec: Codec, head: Codec | None, *, refined: Bank | None, dense: bool
) -> dict[str, Run]:
    """Each way's name to what it finds. `head` is a codec of the same latents that has one."""
    chunks = read_chunks(bank, codec)
    forms = {"": chunks.latents_NKD, ", 8 latents": chunks.latents_NKD[:, :PREFIX]}
    forms |= {", dense": encoded(codec, chunks.texts)} if dense else {}
    forms |= {", refined": read_chunks(refined, codec).latents_NKD} if refined is not None else {}
    sides = dict(by_latents(asked, chunks, forms, {"mean": without_head(codec), "head": head}))
    sides["words"] = [nearest_by_words(bank, question, DEPTH) for question in asked.questions]
    if head is not None:
        sides["light side over the text"] = by_text(asked, chunks, head)
    for side in [side for side in ("mean", "head") if side in sides]:
        for weight in WEIGHTS:
            for fusion, joined in {"scores": fuse, "places": by_places}.items():
                pairs = zip(sides[side], sides["words"], strict=True)
                sides[both(side, fusion, weight)] = [joined(latents, found, weight) for latents, found in pairs]
    return {name: [passages(hits) for hits in each] for name, each in sides.items()}


def both(side: str, fusion: str, weight: float) -> str:
    """The name of a fusion."""
    return f"both: {side} and words, {fusion}, {weight:g}"


def by_latents(
    asked: Asked, chunks: Chunks, forms: dict[str, torch.Tensor], codecs: dict[str, Codec | None]
) -> Iterator[tuple[str, Found]]:
    batches = [asked.questions[first : first + AT_ONCE] for first in range(0, len(asked.questions), AT_ONCE)]
    for name, codec in codecs.items():
        if codec is not None:
            queries_QE = np.concatenate([embed_queries(codec, batch) for batch in batches])
            pooled = codec.head.embed_latents if codec.head is not None else _mean
            for form, latents_NKD in forms.items():
                rows_NE = torch.cat([pooled(part.float()) for part in latents_NKD.split(512)]).numpy()
                yield name + form, _nearest(chunks.hits, rows_NE, queries_QE)


def by_text(asked: Asked, chunks: Chunks, codec: Codec) -> Found:
    """What the head's light side finds when it reads the chunks themselves: what is lost beyond it, latents lose."""
    texts, questions = ([codec.tokenizer.encode(text) for text in texts] for texts in (chunks.texts, asked.questions))
    rows = [codec.embed_queries(texts[first : first + AT_ONCE]) for first in range(0, len(texts), AT_ONCE)]
    return _nearest(chunks.hits, torch.cat(rows).numpy(), codec.embed_queries(questions).numpy())


def by_places(latents: Sequence[Hit], words: Sequence[Hit], weight: float) -> list[Hit]:
    """Weighted reciprocal rank fusion, to compare with: a side gives its weight / (60 + place)."""
    given: dict[str, float] = {}
    for side, share in ((latents, weight), (words, 1 - weight)):
        for place, hit in enumerate(side, 1):
            given[hit.chunk_id] = given.get(hit.chunk_id, 0.0) + share / (DAMPING + place)
    found = {hit.chunk_id: hit for hit in (*words, *latents)}
    return sorted((replace(found[name], score=score) for name, score in given.items()), key=lambda hit: -hit.score)


def read_chunks(bank: Bank, codec: Codec) -> Chunks:
    """In the order of chunk ids, so that the rows of two banks of one corpus lie side by side."""
    hits, texts, latents = [], [], []
    for batch in bank.rows([*PLACE, TEXT, CODES, SCALES]):
        hits += [Hit(**place, score=0.0) for place in batch.select(PLACE).to_pylist()]
        texts += batch.column(TEXT).to_pylist()
        latents.append(standardised(batch, codec))
    order = sorted(range(len(hits)), key=lambda row: hits[row].chunk_id)
    return Chunks([hits[row] for row in order], [texts[row] for row in order], torch.cat(latents)[order])


@torch.inference_mode()
def encoded(codec: Codec, texts: list[str]) -> torch.Tensor:
    """The latents of the texts, standardised and not quantised."""
    limit, found = codec.config.chunk_tokens, []
    for first in range(0, len(texts), AT_ONCE):
        ids = [codec.tokenizer.encode(text)[:limit] for text in texts[first : first + AT_ONCE]]
        latents_BKD = codec.encode(*codec.pad(ids))
        found.append(codec.quantiser.standardise(latents_BKD))
    return torch.cat(found)


def without_head(codec: Codec) -> Codec:
    """The same codec, which embeds by the mean."""
    plain = copy.copy(codec)
    plain.head, plain.config = None, replace(codec.config, pooling=MEAN)
    return plain


def passages(hits: Sequence[Hit]) -> dict[str, float]:
    """Each passage's best chunk."""
    best: dict[str, float] = {}
    for hit in hits:
        if len(best) < BEST:
            best.setdefault(hit.doc_id, hit.score)
    return best


def _mean(latents_NKD: torch.Tensor) -> torch.Tensor:
    return latents_NKD.mean(dim=1)


def _nearest(places: Sequence[Hit], rows_NE: np.ndarray, queries_QE: np.ndarray) -> Found:
    """The nearest chunks of each query by cosine."""
    scores_QN = _unit(queries_QE) @ _unit(rows_NE).T
    best_Qk = np.argsort(-scores_QN, axis=1)[:, :DEPTH]
    return [
        ranked([replace(places[row], score=float(scores_N[row])) for row in best_k])
        for scores_N, best_k in zip(scores_QN, best_Qk, strict=True)
    ]


def _unit(vectors_NE: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.divide(vectors_NE, norms, out=np.zeros_like(vectors_NE), where=norms > 0)
