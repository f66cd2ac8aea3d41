"""A reader's optimizer steps, and how far it has come: the answers of held-out questions, read in every way.

Shapes: B exercises, N trained values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from model.refusal import Refusal
from model.training.optimizer import MasterAdamW
from model.training.reading import KINDS, LATENTS, READS, TEXT, Exercise, Reader
from model.training.trainer import LossError

FALL = 0.2  # the last share of the steps, over which the rate falls to a tenth


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """How a reader is trained. Changed only by `dataclasses.replace`."""

    reads: str = LATENTS  # text: the same training on the chunks' text, to compare with
    steps: int = 400
    batch_size: int = 12  # exercises a step: half continuations, a third answers, the rest without their memory
    micro_batch: int = 6  # exercises a forward
    learning_rate: float = 5e-4
    warmup_steps: int = 20
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    passages: int = 20_000  # drawn from the data, at most
    held_out: int = 128  # of them, for the questions that are looked at
    eval_every: int = 50  # steps between looks
    text_column: str = "text"
    seed: int = 0
    precision: str = "auto"
    checkpoint_minutes: float = 3.0

    def __post_init__(self):
        _require(self.reads in READS, self, "reads", f"one of {', '.join(READS)}")
        for name in ("steps", "micro_batch", "held_out", "eval_every"):
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        _require(self.batch_size >= 6, self, "batch_size", "at least 6: each kind of exercise has a share of it")
        _require(self.passages > self.held_out, self, "passages", "more than held_out")
        for name in ("learning_rate", "clip", "checkpoint_minutes"):
            _require(getattr(self, name) > 0, self, name, "more than 0")
        for name in ("warmup_steps", "weight_decay", "seed"):
            _require(getattr(self, name) >= 0, self, name, "0 or more")

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    def rate(self, step: int) -> float:
        """The learning rate of a step: a warm-up, then level, then a fall."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warm * max(0.1, min(1.0, (self.steps - step) / max(1.0, FALL * self.steps)))


@dataclass(frozen=True, slots=True)
class Looked:
    """Nats a token of held-out answers. The first three are the backbone's own, the others the reader's."""

    text: float  # the chunk's text before the question
    nothing: float
    plain: float  # the memory as the reader sees it
    memory: float
    foreign: float  # another chunk's memory
    questions: int

    @property
    def gap_closed(self) -> float:
        """How much of what the text is worth the reader gets: 0 as nothing, 1 as the backbone on the text."""
        gap = self.nothing - self.text
        return (self.nothing - self.memory) / gap if gap else 0.0


class ReaderTrainer:
    """A reader and its optimizer."""

    def __init__(self, reader: Reader, config: ReaderConfig):
        self.reader, self.config = reader, config
        self.optimizer = MasterAdamW(reader.trained, weight_decay=config.weight_decay, clip=config.clip)
        self._own: tuple[float, ...] = ()  # the backbone's own figures; they and the latents do not change
        self._latents: dict[bytes, torch.Tensor] | None = None  # of the held-out chunks

    def step(self, exercises: Sequence[Exercise], step: int) -> dict[str, float]:
        """One update; the mean loss of each kind of exercise, and the gradient's norm. LossError, before a change."""
        total_N, latents = torch.zeros_like(self.optimizer.master_N), self.reader.encoded(exercises)
        losses: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for batch in batched(exercises, self.config.micro_batch):
            loss_B = self.reader.losses(batch, latents)
            (loss_B.sum() / len(exercises)).backward()
            self.optimizer.add_gradient(total_N)
            for exercise, loss in zip(batch, loss_B.tolist(), strict=True):
                losses[exercise.kind].append(loss)
        means = {kind: sum(each) / len(each) for kind, each in losses.items() if each}
        norm = float(total_N.norm())
        if not (math.isfinite(norm) and all(map(math.isfinite, means.values()))):
            raise LossError(f"a loss or the gradient is no number at step {step}: {means}, norm {norm}")
        self.optimizer.step(total_N, self.config.rate(step))
        return means | {"gradient_norm": norm}

    def look(self, questions: Sequence[Exercise]) -> Looked:
        """Each held-out question with its own chunk, with none, and with the next one's. At least two questions."""
        if len(questions) < 2:
            raise Refusal(f"{len(questions)} held-out passages give a question; two are wanted: raise held_out")
        reads, nothing = self.config.reads, [replace(each, chunks=()) for each in questions]
        following = [*questions[1:], questions[0]]
        foreign = [replace(each, chunks=other.chunks) for each, other in zip(questions, following, strict=True)]
        if self._latents is None:
            parts = [self.reader.encoded(batch) for batch in batched(questions, self.config.micro_batch)]
            self._latents = {key: value for part in parts for key, value in part.items()}
            asked = ((questions, TEXT), (nothing, TEXT), (questions, reads))
            self._own = tuple(self._nats(each, reads=how, adapted=False) for each, how in asked)
        memory, other = (self._nats(each, reads=reads, adapted=True) for each in (questions, foreign))
        return Looked(*self._own, memory, other, len(questions))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that an exact resume needs, on the CPU."""
        return self.reader.tensors() | self.optimizer.tensors()

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """From a checkpoint's tensors: the optimizer's masters hold the adapter."""
        self.optimizer.load(tensors)

    def _nats(self, exercises: Sequence[Exercise], *, reads: str, adapted: bool) -> float:
        total = 0.0
        for batch in batched(exercises, self.config.micro_batch):
            total += float(self.reader.nats(batch, self._latents or {}, reads=reads, adapted=adapted).sum())
        return total / sum(len(each.target) for each in exercises)


def batched(exercises: Sequence[Exercise], size: int) -> list[Sequence[Exercise]]:
    """In their order, `size` at a time."""
    return [exercises[start : start + size] for start in range(0, len(exercises), size)]


def _require(holds: bool, config: object, field: str, wanted: str) -> None:
    if not holds:
        raise Refusal(f"{type(config).__name__}.{field} is {getattr(config, field)!r}; it must be {wanted}")
