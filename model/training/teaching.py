"""Teaching an embedding head: its two sides are drawn towards a sentence embedder's vectors and towards each other.

Both begin as the best linear map in closed form, and learn on from there. The loss of a batch is the sum of three:
InfoNCE between each query and its passage, both ways, with the batch's other passages as negatives; and one minus the
cosine to the teacher's vector, of passages and of queries. Queries need no latents, so there may be many more of them
than of passages: those without a passage join in the last. Nothing of the codec trains. Shapes: P passages, Q queries,
B pairs of a batch, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from model.head import HEADS, WIDTH, Items, PoolingHead, latent_items, padded, token_items
from model.refusal import Refusal
from model.training.closed_form import fitted

LOOKS = 10  # times the held-out pairs are looked at
ALONE = -1  # the passage of a query that has none
AT_ONCE = 512  # texts that a closed form takes together


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How a head is taught. Changed only by `dataclasses.replace`."""

    steps: int = 600  # behind the closed form; 0: that alone
    batch_size: int = 192  # pairs, each of another passage; and as many queries without one
    learning_rate: float = 3e-4  # falls to nothing over the steps, after a tenth of warm-up
    temperature: float = 0.05
    contrast: float = 0.1  # weight of InfoNCE beside the two regressions
    dropped: float = 0.1  # share of a passage's values, and of a query's tokens, that a step leaves out
    held_out: float = 0.05  # of the passages
    passages: int | None = None  # at most, the first of the banks' rows; None: all
    further_texts: int = 20_000  # at most, of files that --data names: their queries teach the queries' side alone
    latents_weight: float | None = None  # in a search by both; None: what heads have (model/config.py)
    seed: int = 0

    def __post_init__(self):
        for name, least in (("steps", 0), ("batch_size", 1), ("further_texts", 0), ("passages", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise Refusal(f"HeadConfig.{name} is {value}; it must be at least {least}")
        if not (0 < self.held_out < 1 and 0 <= self.dropped < 1 and self.temperature > 0):
            raise Refusal("HeadConfig: held_out is above 0 and below 1, dropped below 1, temperature above 0")

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a head is taught from."""

    latents: Callable[[np.ndarray], torch.Tensor]  # of B passages by number: float32 [B, K, D], standardised
    passages_PE: torch.Tensor  # the teacher's vectors; any float type
    queries: Sequence[np.ndarray]  # token ids of each
    queries_QE: torch.Tensor
    passage_of_Q: np.ndarray  # or ALONE
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
    queries_of, alone = _grouped(lesson.passage_of_Q, len(lesson.passages_PE))
    kept, held_out = _split(queries_of, config.held_out, random)
    head = _begun(lesson, kept, held_out, queries_of, alone)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    for step in range(config.steps):
        chosen = random.choice(kept, min(config.batch_size, len(kept)), replace=False)
        lonely = random.choice(alone, min(config.batch_size, len(alone)), replace=False)
        loss = _loss(head, lesson, chosen, _one_each(queries_of, chosen, random), lonely, config, random)
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
    taught_PE, asked_PE = lesson.passages_PE[among].float(), lesson.queries_QE[asked].float()
    return Looked(
        passage_cosine=(passages_PE * taught_PE).sum(-1).mean().item(),
        query_cosine=(queries_PE * asked_PE).sum(-1).mean().item(),
        found_first=_found_first(queries_PE, passages_PE),
        teacher_found_first=_found_first(asked_PE, taught_PE),
        passages=len(among),
    )


def _split(queries_of: list[np.ndarray], held_out: float, random) -> tuple[np.ndarray, np.ndarray]:
    """Passages that teach, and passages that judge; by lot among those with queries."""
    order = random.permutation([passage for passage, queries in enumerate(queries_of) if len(queries)])
    kept, judging = np.split(order, [len(order) - max(2, round(held_out * len(order)))])
    if len(kept) < 2:
        raise Refusal(f"{len(order)} passages with queries are too few to teach a head: some thousand make one")
    return kept, judging


@torch.no_grad()
def _begun(lesson: Lesson, kept, held_out, queries_of: list[np.ndarray], alone: np.ndarray) -> PoolingHead:
    """A head whose sides are the best linear maps: of the mean latent, and of the mean token, rare ones first."""
    asked = np.concatenate([*(queries_of[passage] for passage in kept), alone])
    judging = np.concatenate([queries_of[passage] for passage in held_out])
    _, latents, width = lesson.latents(kept[:1]).shape
    head = PoolingHead(width, latents, lesson.embed.weight.shape[0], WIDTH, HEADS)
    head.passages.worth.zero_()
    head.queries.worth.copy_(_rarity(lesson, asked, len(head.queries.worth)))

    def passages(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        items = latent_items(lesson.latents(chosen))
        return head.passages.average(*items), lesson.passages_PE[chosen].float()

    def queries(chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return head.queries.average(*_tokens(lesson, chosen)), lesson.queries_QE[chosen].float()

    for side, read, taught, judge in (
        (head.passages, passages, kept, held_out),
        (head.queries, queries, asked, judging),
    ):
        found = fitted((read(part) for part in _parts(taught)), read(judge))
        side.begin(found.weight_DE, found.bias_E)
    return head


def _rarity(lesson: Lesson, asked: np.ndarray, vocabulary: int) -> torch.Tensor:
    """[V] so that a token's share of a query grows with the logarithm of how rare it is among the queries."""
    holding_V = np.zeros(vocabulary)
    for query in asked:
        holding_V[np.unique(lesson.queries[query])] += 1
    return torch.from_numpy(np.log(np.log((len(asked) + 2) / (holding_V + 1)))).float()


def _parts(chosen: np.ndarray) -> Iterator[np.ndarray]:
    return (chosen[first : first + AT_ONCE] for first in range(0, len(chosen), AT_ONCE))


def _loss(head, lesson: Lesson, chosen: np.ndarray, asked, lonely, config: HeadConfig, random) -> torch.Tensor:
    every = np.concatenate([asked, lonely])
    passages_BE = _passages(head, lesson, chosen, dropped=config.dropped)
    queries_QE = _queries(head, lesson, every, dropped=config.dropped, random=random)
    scores_BB = queries_QE[: len(asked)] @ passages_BE.T / config.temperature
    own_B = torch.arange(len(chosen))
    contrast = (cross_entropy(scores_BB, own_B) + cross_entropy(scores_BB.T, own_B)) / 2
    towards = 2 - (passages_BE * lesson.passages_PE[chosen].float()).sum(-1).mean()
    towards = towards - (queries_QE * lesson.queries_QE[every].float()).sum(-1).mean()
    return config.contrast * contrast + towards


def _passages(head: PoolingHead, lesson: Lesson, chosen: np.ndarray, *, dropped: float = 0.0) -> torch.Tensor:
    latents_BKD = lesson.latents(chosen)
    return head.embed_latents(torch.nn.functional.dropout(latents_BKD, dropped, training=dropped > 0))


def _queries(
    head: PoolingHead, lesson: Lesson, asked: np.ndarray, *, dropped: float = 0.0, random=None
) -> torch.Tensor:
    return head.queries(*_tokens(lesson, asked, dropped=dropped, random=random))


def _tokens(lesson: Lesson, asked: np.ndarray, *, dropped: float = 0.0, random=None) -> Items:
    texts = [lesson.queries[i] for i in asked]
    if dropped:
        texts = [ids[_some(len(ids), dropped, random)] for ids in texts]
    ids_BL, lengths_B = padded(texts)
    with torch.no_grad():
        return token_items(lesson.embed(ids_BL), ids_BL, lengths_B)


def _some(length: int, dropped: float, random: np.random.Generator) -> np.ndarray:
    """Most of the places 0 to length, in order; at least one."""
    there = random.random(length) >= dropped
    there[random.integers(length)] = True
    return np.flatnonzero(there)


def _found_first(queries_QE: torch.Tensor, passages_QE: torch.Tensor) -> float:
    return ((queries_QE @ passages_QE.T).argmax(dim=1) == torch.arange(len(queries_QE))).float().mean().item()


def _grouped(passage_of_Q: np.ndarray, passages: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The queries of each passage, and those of none."""
    order = np.argsort(passage_of_Q, kind="stable")
    alone, *queries_of = np.split(order, np.searchsorted(passage_of_Q[order], np.arange(passages)))
    return queries_of, alone


def _one_each(queries_of: list[np.ndarray], chosen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.array([random.choice(queries_of[passage]) for passage in chosen])


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    return min(1.0, (step + 1) / warm) * (1 - step / max(1, steps))
