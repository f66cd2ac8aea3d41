"""The training plan: what is set, where a run stands, and when a sub-stage ends.

Source of the defaults: NextMem (arXiv 2603.15634): 3,092 steps of stage 1, then sub-stages. That both adapters train in
stage 2 is ours, as is what the paper does not give: learning rate, batch, sub-stage lengths (docs/experiments.md).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from model.refusal import Refusal

STAGES = ("both", "1", "2")
CURRICULA = ("progressive", "all_at_once")
TRAINS = ("encoder", "encoder_marker", "both")
PRECISIONS = ("auto", "fp32", "bf16")
LOSS_FLOOR = 1e-3  # nats a label: a fall smaller than this is no progress, however small the loss is by then


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a run's numbers, beside the codec's own configuration and the passages."""

    stages: str = "both"
    curriculum: str = "progressive"  # all_at_once: sub-stage K alone, with the steps of all of them
    trains: str = "both"  # in stage 2; encoder: decoder adapter and marker stay, as in the paper; encoder_marker
    quantise_in_loop: bool = False  # the decoder reads what NF4 keeps of the latents
    nested: bool = False  # in stage 2: each step reads the first few latents alone, so many as are drawn
    text_noise: float = 0.0  # in stage 2: share of the tokens that the decoder reads that are replaced at random
    stage1_steps: int = 3092
    substage_steps: int = 400  # cap of one sub-stage of stage 2
    final_steps: int | None = None  # cap of the last sub-stage; None: as the others
    first_substage: int = 1  # later, for adapters that have been through the first ones
    plateau: float = 0.01  # a sub-stage is stable when its held-out loss falls by less than this share ...
    patience: int = 3  # ... in so many looks one after another; 0: every sub-stage runs to its cap
    eval_every: int = 50  # steps between looks at the held-out loss
    batch_size: int = 32  # chunks a step, over all workers
    micro_batch: int = 32  # chunks a forward on one worker
    learning_rate: float = 5e-4
    warmup_steps: int = 30  # at the start of each stage
    decay_steps: int = 0  # the last steps of the last sub-stage, over which the rate falls to a tenth
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    min_tokens: int = 16  # shorter chunks are left out
    held_out: int = 256  # chunks kept out of training, for the held-out loss and for calibration
    text_column: str = "text"
    seed: int = 0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    merged: bool = True  # fed-back latents are generated with the adapter added to a copy of the weights
    compile_layers: bool = False  # needs a C++ compiler on a CPU; the first steps of each stage then take a minute
    shard_backbone: bool = False  # each worker holds a share of the frozen layers, for a backbone that fits no device
    checkpoint_every: int = 200  # steps
    checkpoint_minutes: float = 3.0  # and at least so often
    keep_checkpoints: int = 3
    samples: int = 4  # held-out chunks decoded greedily at the end of each sub-stage

    def __post_init__(self):
        for name, choices in (("stages", STAGES), ("curriculum", CURRICULA), ("trains", TRAINS)):
            _require(getattr(self, name) in choices, self, name, f"one of {', '.join(choices)}")
        _require(self.precision in PRECISIONS, self, "precision", f"one of {', '.join(PRECISIONS)}")
        for name in ("stage1_steps", "substage_steps", "first_substage", "eval_every", "batch_size", "micro_batch"):
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("min_tokens", "held_out", "checkpoint_every", "keep_checkpoints"):
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("patience", "warmup_steps", "decay_steps", "weight_decay", "samples", "seed", "plateau"):
            _require(getattr(self, name) >= 0, self, name, "0 or more")
        for name in ("learning_rate", "clip", "checkpoint_minutes"):
            _require(getattr(self, name) > 0, self, name, "more than 0")
        _require(0 <= self.text_noise < 1, self, "text_noise", "0 or more and less than 1")
        _require(self.final_steps is None or self.final_steps >= 1, self, "final_steps", "at least 1, or none")

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands: before step `step` (counted over the whole run, from 0)."""

    stage: int  # 1, 2; 3: done
    substage: int  # 0 in stage 1, then 1..K
    step: int
    stage_step: int  # since the stage began
    substage_step: int  # since the sub-stage began; stage 1 is one sub-stage
    cap: int  # steps of this sub-stage at most
    best: float | None = None  # lowest held-out loss of this sub-stage
    stale: int = 0  # looks since it last fell
    planned: int | None = None  # the cap that the settings gave this sub-stage; None: of an older version
    falls_from: int | None = None  # step of this sub-stage from which on the rate falls to its end; None: not yet

    @property
    def is_done(self) -> bool:
        return self.stage > 2

    def name(self) -> str:
        """As a person reads it."""
        where = "stage 1" if self.stage == 1 else f"sub-stage {self.substage}" if self.stage == 2 else "the end"
        return where if self.falls_from is None else f"{where}, in its decay"


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The order of stages and sub-stages of a run with K latents."""

    config: TrainConfig
    num_latents: int

    def __post_init__(self):
        _require(self.config.first_substage <= self.num_latents, self.config, "first_substage", "at most num_latents")

    def start(self) -> Place:
        return self._enter(1 if self.config.stages != "2" else 2, step=0)

    def resumed(self, place: Place) -> Place:
        """A checkpoint's place under these settings, which may have changed since.

        A sub-stage whose end has begun goes on to that end, unless the settings now give it another cap. Otherwise it
        ends at their cap, or with the next step where that is past, and its decay begins as they say.
        """
        planned = self._cap(place.substage)
        stable = bool(self.config.patience) and place.stale >= self.config.patience
        ending = stable or place.falls_from is not None
        if place.is_done or (ending and place.planned in (None, planned)):
            return place
        return dataclasses.replace(
            place,
            cap=max(planned, place.substage_step + 1),
            stale=0 if ending else place.stale,
            planned=planned,
            falls_from=None,
        )

    def after_step(self, place: Place) -> Place:
        """One step further; the sub-stage ends at its cap, and its last steps are its decay."""
        place = dataclasses.replace(
            place, step=place.step + 1, stage_step=place.stage_step + 1, substage_step=place.substage_step + 1
        )
        falls_from = self._falls_from(place)
        if falls_from is None or place.substage_step < falls_from:
            return place
        return dataclasses.replace(place, falls_from=falls_from)

    def looks_due(self, place: Place) -> bool:
        """Whether the held-out loss is to be measured here: every `eval_every` steps and at the cap."""
        return place.substage_step >= place.cap or (
            place.substage_step > 0 and place.substage_step % self.config.eval_every == 0
        )

    def after_look(self, place: Place, loss: float) -> Place:
        """The plateau rule: `patience` looks in a row that do not lower the best held-out loss by `plateau` of itself.

        The last sub-stage then still gets its decay, during which no look ends it.
        """
        falls = place.best is None or loss < place.best - max(self.config.plateau * place.best, LOSS_FLOOR)
        stale = 0 if falls else place.stale + 1
        place = dataclasses.replace(place, best=loss if falls else place.best, stale=stale)
        if self.config.patience and stale >= self.config.patience and place.falls_from is None:
            rest = self.config.decay_steps if self._is_last(place) else 0
            place = dataclasses.replace(
                place, cap=place.substage_step + rest, falls_from=place.substage_step if rest else None
            )
        return place

    def ended(self, place: Place) -> bool:
        return place.substage_step >= place.cap

    def next(self, place: Place) -> Place:
        """The first place of the next sub-stage or stage."""
        if place.stage == 1:
            return self._enter(3 if self.config.stages == "1" else 2, step=place.step)
        if place.substage == self.num_latents:
            return Place(3, place.substage, place.step, 0, 0, 0)
        return self._at(2, place.substage + 1, step=place.step, stage_step=place.stage_step)

    def steps_left(self, place: Place) -> int:
        """At most, from here on: what an ETA is made of."""
        left = 0
        while not place.is_done:
            left += max(0, place.cap - place.substage_step)
            place = self.next(place)
        return left

    def learning_rate(self, place: Place) -> float:
        """Warm-up at the start of a stage, constant, and a linear fall to a tenth at the very end."""
        warm = min(1.0, (place.stage_step + 1) / (self.config.warmup_steps + 1))
        cool, falls_from = 1.0, self._falls_from(place)
        if falls_from is not None:
            left = (place.cap - place.substage_step) / (place.cap - falls_from)
            cool = max(0.1, min(1.0, left))
        return self.config.learning_rate * warm * cool

    def _falls_from(self, place: Place) -> int | None:
        """Where the decay of this sub-stage began, or will begin, or began before its first step."""
        if place.falls_from is not None:
            return place.falls_from
        return place.cap - self.config.decay_steps if self.config.decay_steps and self._is_last(place) else None

    def _is_last(self, place: Place) -> bool:
        return place.substage == self.num_latents or (place.stage == 1 and self.config.stages == "1")

    def _enter(self, stage: int, *, step: int) -> Place:
        if stage == 1:
            return self._at(1, 0, step=step)
        if stage == 3:
            return Place(3, 0, step, 0, 0, 0)
        first = self.num_latents if self.config.curriculum == "all_at_once" else self.config.first_substage
        return self._at(2, first, step=step)

    def _at(self, stage: int, substage: int, *, step: int, stage_step: int = 0) -> Place:
        cap = self._cap(substage)
        return Place(stage, substage, step, stage_step, 0, cap, planned=cap)

    def _cap(self, substage: int) -> int:
        config = self.config
        cap = config.substage_steps if substage else config.stage1_steps
        if substage == self.num_latents:
            cap = config.final_steps or config.substage_steps
            if config.curriculum == "all_at_once":
                cap += (self.num_latents - 1) * config.substage_steps
        return cap


def _require(holds: bool, config: object, field: str, wanted: str) -> None:
    if not holds:
        raise Refusal(f"{type(config).__name__}.{field} is {getattr(config, field)!r}; it must be {wanted}")
