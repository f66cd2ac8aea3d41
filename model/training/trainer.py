"""One optimizer step and one look at the held-out loss, on one worker or several, with no opinion on files or Ray.

Shapes: B chunks, L tokens, N trained values. Workers hold the same weights and read different rows of one global batch;
gradients are sums over labels divided by the global number of labels, so the number of workers changes only rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from model.batches import batches
from model.training.curriculum import Curriculum, Place, TrainConfig
from model.training.losses import Batch, Scored, make_batch
from model.training.nested import drawn
from model.training.noise import noisy
from model.training.optimizer import MasterAdamW
from model.training.trainee import NEUTRAL, Trainee
from model.untrained import calibrate, latents_of


class LossError(ValueError):
    """A loss or gradient that is not a number."""


class Group:
    """The workers of a run: torch.distributed's where it is running, else this one alone."""

    def __init__(self):
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if together else 0
        self.size = torch.distributed.get_world_size() if together else 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """In place, over all workers."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def share(self, items: Sequence) -> Sequence:
        """This worker's part: every size-th, so that a batch sorted by length is shared evenly."""
        return items[self.rank :: self.size]


@dataclass(frozen=True, slots=True)
class Measured:
    """Means over the labels of a step or of the held-out chunks, over all workers."""

    loss: float  # nats a label
    accuracy: float  # share of labels whose teacher-forced argmax is right
    labels: int
    gradient_norm: float = 0.0


class Trainer:
    """A trainee, the optimizer of its present stage, and the group it trains in."""

    def __init__(self, trainee: Trainee, config: TrainConfig, group: Group | None = None):
        self.trainee, self.config, self.group = trainee, config, group or Group()
        self.curriculum = Curriculum(config, trainee.config.num_latents)
        self.optimizer: MasterAdamW | None = None
        trainee.prepare(config)

    def enter(
        self,
        place: Place,
        held_out: Sequence[np.ndarray],
        *,
        gain_chunks: Sequence[np.ndarray] | None = None,
        keeps_encoder: bool = False,
    ) -> None:
        """Once, on coming to a place: stage 2 begins with a copied encoder (unless kept) and a measured gain."""
        if place.stage == 2 and place.stage_step == 0 and not keeps_encoder:
            self.trainee.begin_stage_2(held_out if gain_chunks is None else gain_chunks)
        if place.stage == 2 and self.config.quantise_in_loop:
            self.calibrate(held_out, place.substage)
        if not place.is_done and place.stage_step == 0:
            self.make_optimizer(place)

    def make_optimizer(self, place: Place) -> None:
        named = self.trainee.train(place.stage, self.config.trains)
        self.optimizer = MasterAdamW(
            named, weight_decay=self.config.weight_decay, clip=self.config.clip, neutral=NEUTRAL
        )

    def calibrate(self, held_out: Sequence[np.ndarray], substage: int) -> None:
        """Measure each channel's mean and deviation over the latents trained so far: the quantiser stands on them."""
        latents_NKD = latents_of(self.trainee.codec(), held_out)
        self.trainee.statistics = calibrate(latents_NKD[:, :substage], self.trainee.config)

    def step(self, chunks: Sequence[np.ndarray], place: Place) -> Measured:
        """One update from a global batch. Raises LossError, on every worker and before anything is changed."""
        labels = sum(len(chunk) + 1 for chunk in chunks)
        total = self.group.sum_(self.gradient(chunks, place))
        gradient_N, (loss, correct) = total[:-2], total[-2:].tolist()
        norm = float(gradient_N.norm())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise LossError(f"the loss is {loss / labels} and the gradient's norm {norm} at step {place.step}")
        self.optimizer.step(gradient_N, self.curriculum.learning_rate(place))
        return Measured(loss / labels, correct / labels, labels, norm)

    def gradient(self, chunks: Sequence[np.ndarray], place: Place) -> torch.Tensor:
        """float32 [N + 2] of this worker's part of a global batch, micro-batches added up: the gradient of its share of
        the mean loss, the sum of losses, and the number of labels that are right."""
        labels = sum(len(chunk) + 1 for chunk in chunks)
        total = torch.zeros(len(self.optimizer.master_N) + 2, device=self.trainee.backbone.device)
        with self._unchanged(place):
            for batch in self._micro_batches(chunks, self._read(chunks, place)):
                scored = self._score(batch, self._drawn(place))
                (scored.loss / labels).backward()
                self.optimizer.add_gradient(total[:-2])
                total[-2:] += torch.stack([scored.loss.detach(), scored.correct])
        return total

    @torch.no_grad()
    def look(self, chunks: Sequence[np.ndarray], place: Place, *, plain: bool = False) -> Measured:
        """The held-out loss at a place, or with `plain` the backbone's own on the same labels.

        Raises LossError: NaN is no fall, and would end a sub-stage as if it were stable.
        """
        sums = torch.zeros(2, device=self.trainee.backbone.device)
        with nullcontext() if plain else self._unchanged(place):
            for batch in self._micro_batches(chunks):
                scored = self.trainee.plain(batch) if plain else self._score(batch, place)
                sums += torch.stack([scored.loss, scored.correct])
        labels = sum(len(chunk) + 1 for chunk in chunks)
        loss, correct = (self.group.sum_(sums) / labels).tolist()
        if not math.isfinite(loss):
            raise LossError(f"the held-out loss is {loss} at step {place.step}")
        return Measured(loss, correct, labels)

    def _score(self, batch: Batch, place: Place) -> Scored:
        return self.trainee.score(batch, place, quantise=self.config.quantise_in_loop)

    def _drawn(self, place: Place) -> Place:
        """The place with as many latents as the step reads. Held-out looks read them all."""
        if place.stage == 1 or not self.config.nested:
            return place
        return replace(place, substage=drawn(place.substage, seed=self.config.seed, step=place.step))

    def _unchanged(self, place: Place) -> AbstractContextManager[None]:
        """Around what generates latents to feed back, between two changes of the weights."""
        return self.trainee.unchanged() if self._feeds_back(place) else nullcontext()

    def _feeds_back(self, place: Place) -> bool:
        return place.stage == 2 and place.substage > 1 and self.trainee.slots_KD is None

    def _read(self, chunks: Sequence[np.ndarray], place: Place) -> Sequence[np.ndarray] | None:
        """What the decoder reads of a global batch in its place, in stage 2; None: the batch itself."""
        if place.stage == 1 or not self.config.text_noise:
            return None
        return noisy(chunks, self.config.text_noise, seed=self.config.seed, step=place.step)

    def _micro_batches(self, chunks: Sequence[np.ndarray], read: Sequence[np.ndarray] | None = None):
        own = self.group.share(sorted(range(len(chunks)), key=lambda i: -len(chunks[i])))
        for group in batches([len(chunks[i]) for i in own], self.config.micro_batch):
            rows = [own[i] for i in group]
            device = self.trainee.backbone.device
            yield make_batch([chunks[i] for i in rows], device, read=None if read is None else [read[i] for i in rows])
