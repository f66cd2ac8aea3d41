"""A training run from wherever it stands to its end: the same loop in one process and in each of Ray's workers.

Every worker runs it; the first one of the group also writes. Needs torch, transformers, peft, safetensors, filelock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from jobs.train.run_folder import Metrics, RunFolder, RunSettings
from jobs.train.run_log import RunLog
from model.backbone import Backbone, default_device, load_backbone
from model.baselines.dyprag import Translating
from model.baselines.settings import DYPRAG
from model.codec_folder import TENSORS
from model.codec_io import save_codec
from model.gain import TOKENS_A_CHANNEL
from model.refusal import Refusal
from model.speed import matmul_rate
from model.training.curriculum import Place
from model.training.passages import Passages, Sampler
from model.training.trainee import Trainee
from model.training.trainer import Group, LossError, Measured, Trainer
from model.untrained import calibrate, latents_of


class HaltedError(Refusal):
    """The run cannot go on; the message says why, and what a person can do."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Where and how long, not what: `deadline` is time.time() at which to stop whole, None for never."""

    folder: str
    device: str = "auto"
    deadline: float | None = None
    export: str | None = None  # train no further: write the codec of the latest checkpoint to this new folder


def run_loop(options: LoopOptions, *, observe: Callable[[dict], None], say: Callable[[str], None]) -> bool:
    """Train until the end (True) or the deadline (False). Raises HaltedError on every worker alike."""
    run = RunFolder(options.folder)
    group = Group()
    lock = run.lock() if group.is_first else None
    group.sum_(torch.zeros(1, device=_group_device()))  # nobody reads before the first holds the lock
    try:
        return _Loop(run, options, group, observe, say).go()
    finally:
        if lock is not None:
            lock.release()


class _Loop:
    """What a run holds while it goes."""

    def __init__(self, run: RunFolder, options: LoopOptions, group: Group, observe, say):
        self.run, self.options, self.group, self.say = run, options, group, say
        self.settings: RunSettings = run.settings()
        self.config = self.settings.train
        shared_out = self.config.shard_backbone and group.size > 1
        self.passages = Passages.open(run.data)
        self.held_out = self.passages.held_out_chunks()
        if shared_out:
            _require_even(self.settings, group.size, len(self.held_out))
            self.held_out = self.held_out[: len(self.held_out) // group.size * group.size]
        device = default_device() if options.device == "auto" else options.device
        self.backbone = _backbone(self.settings, "cpu" if shared_out else device)
        self.trainee = _trainee(self.backbone, self.settings, shard_on=device if shared_out else None)
        try:
            self.trainer = Trainer(self.trainee, self.config, group)
        except Refusal as error:
            raise HaltedError(str(error)) from None
        self.curriculum = self.trainer.curriculum
        self.sampler = Sampler(
            self.passages.lengths_N,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            first=self.passages.held_out,
        )
        self.rate = matmul_rate(self.backbone.device, self.backbone.dtype) if group.is_first else 1.0
        self.checkpoints = run.checkpoints(self.config.keep_checkpoints)
        self.place = self._resume()
        self.log = RunLog(run, Metrics(run.metrics, observe), self.place) if group.is_first else None
        self.saved_at = time.monotonic()

    def go(self) -> bool:
        if self.options.export is not None:
            self._write_codec(Path(self.options.export))
            return True
        if self.place.step == 0 and not self.place.is_done:
            self._look_at_start()
        while not self.place.is_done:
            self._step()
            if self.curriculum.looks_due(self.place):
                self._look()
            if self.curriculum.ended(self.place):
                self._end_substage()
            elif self._must_stop():
                return False
        self._finish()
        return True

    def _resume(self) -> Place:
        saved = self.checkpoints.read(self.say if self.group.is_first else lambda line: None)
        if saved is None:
            if self.settings.init is not None:
                self.trainee.load(load_file(Path(self.settings.init) / TENSORS))
            place = self.curriculum.start()
            self._enter(place, keeps_encoder=self.settings.init is not None)
        else:
            place = self.curriculum.resumed(saved.place)
            self.trainee.load(saved.tensors)
            if not place.is_done:
                self.trainer.make_optimizer(place)
                self.trainer.optimizer.load(saved.tensors)
            self.say(f"going on at step {place.step} ({place.name()})")
        if self.group.is_first:
            self.run.forget_after(place.step)
        return place

    def _step(self) -> None:
        place, start = self.place, time.perf_counter()
        indices = self.sampler.batch(place.step)
        try:
            measured = self.trainer.step([self.passages.chunk(i) for i in indices], place)
        except LossError as error:
            raise HaltedError(self._not_a_number(error, indices)) from None
        seconds = time.perf_counter() - start
        self.place = self.curriculum.after_step(place)
        if self.log is not None:
            lengths = self.sampler.lengths_N[indices]
            flop = self.trainee.flop(lengths, place)
            self.log.step(
                place,
                measured,
                learning_rate=self.curriculum.learning_rate(place),
                tokens=int(lengths.sum()),
                seconds=seconds,
                flop=flop,
                share=flop / seconds / self.rate / self.group.size,
                steps_left=self.curriculum.steps_left(self.place),
            )

    def _look(self) -> None:
        measured = self._held_out_loss()
        self.place = self.curriculum.after_look(self.place, measured.loss)
        if self.log is not None:
            self.log.look(self.place, measured)

    def _look_at_start(self) -> None:
        """The backbone's own loss on the held-out text: what a useful latent must beat."""
        plain = self._held_out_loss(plain=True)
        if self.log is not None:
            self.log.plain(plain)

    def _held_out_loss(self, *, plain: bool = False) -> Measured:
        try:
            return self.trainer.look(self.held_out, self.place, plain=plain)
        except LossError as error:
            kept = self.checkpoints.latest() or "none"
            raise HaltedError(f"{error} ({self.place.name()}). The last good checkpoint is {kept}.") from None

    def _end_substage(self) -> None:
        samples = [self.trainee.sample(c, self.place) for c in self._sampled()]
        if self.log is not None:
            stable = self.config.patience and self.place.stale >= self.config.patience
            self.log.end_of_substage(self.place, samples, by="plateau" if stable else "cap")
        self.place = self.curriculum.next(self.place)
        self._enter(self.place)
        self._agree(self._save())

    def _enter(self, place: Place, *, keeps_encoder: bool = False) -> None:
        self.trainer.enter(place, self.held_out, gain_chunks=self._gain_chunks(), keeps_encoder=keeps_encoder)

    def _gain_chunks(self) -> list:
        return self.passages.first_chunks(TOKENS_A_CHANNEL * self.backbone.width)

    def _must_stop(self) -> bool:
        """Write a checkpoint where one is due. The first worker's clock decides for all."""
        late = self.options.deadline is not None and time.time() > self.options.deadline
        old = time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes
        mine = torch.tensor([float(late), float(old)], device=self.backbone.device)
        late, old = (self.group.sum_(mine if self.group.is_first else mine * 0) > 0).tolist()
        if late or old or self.place.step % self.config.checkpoint_every == 0:
            self._agree(self._save())
        return late

    def _save(self) -> str | None:
        """The checkpoint of this place; what went wrong, in a line."""
        self.saved_at = time.monotonic()
        if not self.group.is_first:
            return None
        tensors = self.trainee.tensors()
        if not self.place.is_done:
            tensors |= self.trainer.optimizer.tensors()
        try:
            self.checkpoints.write(self.place, tensors)
        except OSError as error:
            kept = self.checkpoints.latest() or "none"
            return (
                f"the checkpoint of step {self.place.step} could not be written: {error.strerror or error}. Make room "
                f"in {self.run.path} and run the same command again; the last good checkpoint is {kept}."
            )
        return None

    def _agree(self, trouble: str | None) -> None:
        """All workers stop where the first one must."""
        failed = self.group.sum_(torch.tensor([float(trouble is not None)], device=self.backbone.device))
        if float(failed):
            raise HaltedError(trouble or "the first worker could not write a checkpoint")

    def _not_a_number(self, error: LossError, indices) -> str:
        kept = self.checkpoints.latest()
        rest = f"The last good checkpoint is {kept}." if kept else "There is no checkpoint yet."
        named = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
        return (
            f"{error} ({self.place.name()}), in the batch of chunks {named} of {self.run.data}. {rest} "
            f"Try a lower rate: --change --set learning_rate={self.config.learning_rate / 3:.1g}"
        )

    def _finish(self) -> None:
        self._write_codec(self.run.codec)
        if self.log is not None:
            self.log.close()
            self.say(f"trained: {self.run.codec}")

    def _write_codec(self, folder: Path) -> None:
        """Calibrate on held-out text and write the codec folder that `--codec` and `--init` take.

        Before stage 2 it is what stage 2 would begin with: a run of stage 2 alone can start from it.
        """
        if not self._computes:
            return
        if isinstance(self.trainee, Translating):
            if self.group.is_first and not folder.exists():
                self.trainee.save(folder)
            return
        if self.place.stage == 1 or self.config.stages == "1":
            self.trainee.begin_stage_2(self._gain_chunks())
        self.trainee.round_off()
        latents_NKD = latents_of(self.trainee.codec(), self.held_out)
        if self.group.is_first and not folder.exists():
            save_codec(self.trainee.codec(calibrate(latents_NKD, self.settings.codec)), folder)

    def _sampled(self) -> list:
        return self.held_out[: self.config.samples] if self._computes else []

    @property
    def _computes(self) -> bool:
        """Whether this worker takes part in what one is enough for: all do where the backbone is shared out."""
        return self.group.is_first or self.config.shard_backbone


def _trainee(backbone: Backbone, settings: RunSettings, shard_on: str | None) -> Trainee | Translating:
    if settings.system in DYPRAG:
        return Translating(backbone, settings.codec, settings.system, seed=settings.train.seed)
    return Trainee(backbone, settings.codec, seed=settings.train.seed, shard_on=shard_on)


def _backbone(settings: RunSettings, device: str) -> Backbone:
    """sdpa attention: only verifying and recalling must round alike, and training stores no attention matrices so.
    Eager where a CPU's compiled layers fuse it, which is faster there (docs/experiments.md)."""
    return load_backbone(
        settings.backbone,
        precision=settings.train.precision,
        device=device,
        load_in_4bit=settings.codec.load_in_4bit,
        attention="eager" if settings.train.compile_layers and device == "cpu" else "sdpa",
    )


def _require_even(settings: RunSettings, workers: int, held_out: int) -> None:
    """Shared layers are gathered by all workers at once, so each must run as many forwards as the others."""
    if settings.codec.load_in_4bit or settings.train.compile_layers:
        other = "load_in_4bit" if settings.codec.load_in_4bit else "compile_layers"
        raise HaltedError(f"shard_backbone and {other} do not go together: leave one of them out")
    batch = settings.train.batch_size
    if batch % workers:
        raise HaltedError(f"with shard_backbone batch_size={batch} must be a multiple of the {workers} workers")
    if held_out < workers:
        raise HaltedError(f"with shard_backbone each of {workers} workers needs a held-out chunk; there are {held_out}")


def _group_device() -> torch.device:
    nccl = torch.distributed.is_available() and torch.distributed.is_initialized()
    nccl = nccl and torch.distributed.get_backend() == "nccl"
    return torch.device("cuda" if nccl else "cpu")


def write_error(folder: str, error: Exception) -> None:
    """For the driver, which reads it when the workers are gone."""
    RunFolder(folder).error.write_text(json.dumps({"message": str(error)}))
