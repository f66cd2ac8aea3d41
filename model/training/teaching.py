"""Teaching an embedding head: its two sides are drawn towards a sentence embedder's vectors and towards each other.

The loss of a batch is the sum of three: InfoNCE between each query and its passage, both ways, with the batch's other
passages as negatives; and one minus the cosine to the teacher's vector, of passages and of queries. Nothing of the
codec trains. Shapes: P passages, Q queries (each of one passage), B pairs of a batch, K latents, D hidden width,
E embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from model.head import HEADS, WIDTH, PoolingHead, padded
from model.refusal import Refusal

LOOKS = 10  # times the held-out pairs are looked at


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How a head is taught. Changed only by `dataclasses.replace`."""

    steps: int = 1500
    batch_size: int = 256  # pairs, each of another passage
    learning_rate: float = 1e-3  # falls to nothing over the steps, after a tenth of warm-up
    temperature: float = 0.05
    contrast: float = 0.5  # weight of InfoNCE beside the two regressions
    dropped: float = 0.2  # share of a passage's values, and of a query's tokens, that a step leaves out
    held_out: float = 0.05  # of the passages
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise Refusal(f"HeadConfig.{name} is {getattr(self, name)}; it must be at least 1")
        if not (0 < self.held_out < 1 and 0 <= self.dropped < 1 and self.temperature > 0):
            raise Refusal("HeadConfig: held_out is above 0 and below 1, dropped below 1, temperature above 0")

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a head is taught from."""

    latents_PKD: torch.Tensor  # standardised; any float type
    passages_PE: torch.Tensor  # the teacher's vectors, float32
    queries: Sequence[np.ndarray]  # token ids of each
    queries_QE: torch.Tensor
    passage_of_Q: np.ndarray
    embed: Callable[[torch.Tensor], torch.Tensor]  # the backbone's token embeddings


@dataclass(frozen=True, slots=True)
class Looked:
    """The held-out passages, one query each."""

    passage_cosine: float  # to the teacher's vectors
    query_cosine: float
    found_first: float  # share of queries that find their own passage first among the held-out ones
    teacher_found_first: float
    passages: int


def teach(
    lesson: Lesson, config: HeadConfig, *, observe: Callable[[dict], object] = lambda row: None
) -> tuple[PoolingHead, Looked]:
    """A head, rounded as a codec keeps it, and how it does on the held-out passages. Seeded; no step is drawn twice."""
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    (passages, latents, width), vocabulary = lesson.latents_PKD.shape, lesson.embed.weight.shape[0]
    queries_of = _grouped(lesson.passage_of_Q, passages)
    order = random.permutation([passage for passage in range(passages) if len(queries_of[passage])])
    kept, held_out = np.split(order, [len(order) - max(2, round(config.held_out * len(order)))])
    if len(kept) < 2:
        raise Refusal(f"{len(order)} passages with queries are too few to teach a head: some thousand make one")
    head = PoolingHead(width, latents, vocabulary, WIDTH, HEADS)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    for step in range(config.steps):
        chosen = random.choice(kept, min(config.batch_size, len(kept)), replace=False)
        loss = _loss(head, lesson, chosen, _one_each(queries_of, chosen, random), config, random)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % max(1, config.steps // LOOKS) == 0 or step + 1 == config.steps:
            looked = look(head, lesson, held_out, queries_of)
            observe({"event": "head", "step": step, "loss": loss.item(), **dataclasses.asdict(looked)})
    head.load_state_dict({name: tensor.bfloat16().float() for name, tensor in head.state_dict().items()})
    return head.eval().requires_grad_(False), look(head, lesson, held_out, queries_of)


@torch.inference_mode()
def look(head: PoolingHead, lesson: Lesson, among: np.ndarray, queries_of: list[np.ndarray]) -> Looked:
    """The first query of each of these passages, among them."""
    asked = np.array([queries_of[passage][0] for passage in among])
    passages_PE, queries_PE = _passages(head, lesson, among), _queries(head, lesson, asked)
    taught_PE, asked_PE = lesson.passages_PE[among], lesson.queries_QE[asked]
    return Looked(
        passage_cosine=(passages_PE * taught_PE).sum(-1).mean().item(),
        query_cosine=(queries_PE * asked_PE).sum(-1).mean().item(),
        found_first=_found_first(queries_PE, passages_PE),
        teacher_found_first=_found_first(asked_PE, taught_PE),
        passages=len(among),
    )


def _loss(head, lesson: Lesson, chosen: np.ndarray, asked: np.ndarray, config: HeadConfig, random) -> torch.Tensor:
    passages_BE = _passages(head, lesson, chosen, dropped=config.dropped)
    queries_BE = _queries(head, lesson, asked, dropped=config.dropped, random=random)
    scores_BB = queries_BE @ passages_BE.T / config.temperature
    own_B = torch.arange(len(chosen))
    contrast = (cross_entropy(scores_BB, own_B) + cross_entropy(scores_BB.T, own_B)) / 2
    towards = 2 - (passages_BE * lesson.passages_PE[chosen]).sum(-1).mean()
    towards = towards - (queries_BE * lesson.queries_QE[asked]).sum(-1).mean()
    return config.contrast * contrast + towards


def _passages(head: PoolingHead, lesson: Lesson, chosen: np.ndarray, *, dropped: float = 0.0) -> torch.Tensor:
    latents_BKD = lesson.latents_PKD[chosen].float()
    return head.embed_latents(torch.nn.functional.dropout(latents_BKD, dropped, training=dropped > 0))


def _queries(
    head: PoolingHead, lesson: Lesson, asked: np.ndarray, *, dropped: float = 0.0, random=None
) -> torch.Tensor:
    texts = [lesson.queries[i] for i in asked]
    if dropped:
        texts = [ids[_some(len(ids), dropped, random)] for ids in texts]
    ids_BL, lengths_B = padded(texts)
    with torch.no_grad():
        embeds_BLD = lesson.embed(ids_BL).float()
    return head.embed_tokens(embeds_BLD, ids_BL, lengths_B)


def _some(length: int, dropped: float, random: np.random.Generator) -> np.ndarray:
    """Most of the places 0 to length, in order; at least one."""
    there = random.random(length) >= dropped
    there[random.integers(length)] = True
    return np.flatnonzero(there)


def _found_first(queries_QE: torch.Tensor, passages_QE: torch.Tensor) -> float:
    return ((queries_QE @ passages_QE.T).argmax(dim=1) == torch.arange(len(queries_QE))).float().mean().item()


def _grouped(passage_of_Q: np.ndarray, passages: int) -> list[np.ndarray]:
    order = np.argsort(passage_of_Q, kind="stable")
    return np.split(order, np.searchsorted(passage_of_Q[order], np.arange(1, passages)))


def _one_each(queries_of: list[np.ndarray], chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.array([random.choice(queries_of[passage]) for passage in chosen])


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min(1.0, (step + 1) / warm) * (1 - step / steps)
