"""`nextmem train --system reader`: train a reader on a codec's latents, and write the codec that has it.

RUN/config.json  RUN/data/passages.jsonl  RUN/metrics.jsonl  RUN/checkpoints/  RUN/codec/
The codec is frozen; RUN/codec is its folder with the reader's files beside. The same command goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from jobs.settings import replaced
from jobs.train.exercises import Exercises, choose_passages, read_chosen, write_chosen
from jobs.train.run_folder import Metrics, RunFolder, replace_file
from model.backbone import default_device, load_backbone
from model.codec_folder import READER_TENSORS, TENSORS, read_settings
from model.codec_io import load_codec
from model.config import VerifyConfig
from model.default_codec import default_codec_folder
from model.embedded import EMBEDDED
from model.precision import default_precision
from model.reader import NAME, add_reader, has_reader
from model.refusal import Refusal
from model.training.curriculum import Place
from model.training.reading import LATENTS, Reader
from model.training.reading_trainer import Looked, ReaderConfig, ReaderTrainer
from model.training.trainer import LossError
from pipeline.bank.codec_copy import local_codec
from pipeline.corpus.passages import Found, passage_files, read_passages

MAY_CHANGE = ("steps", "learning_rate", "warmup_steps", "eval_every", "checkpoint_minutes", "micro_batch", "clip")
KEPT = 2  # checkpoints
PASSAGES = "passages.jsonl"


@dataclass(frozen=True, slots=True)
class ReaderRequest:
    """What a person asks for."""

    run: str
    data: tuple[str, ...] = ()  # passages as Parquet or JSONL; needed for a new run only
    codec: str | None = None  # its folder; None: what the run holds, else the codec that ships
    settings: Mapping[str, object] = field(default_factory=dict)  # of ReaderConfig, by name
    minutes: float | None = None
    change: bool = False
    export: str | None = None  # train no further: write the codec with the latest checkpoint's reader there


def run_reader(
    request: ReaderRequest,
    *,
    on_progress: Callable[[dict], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Path | None:
    """Train from wherever the run stands: the folder of the codec with its reader; None where the minutes were over.

    Raises Refusal and FileNotFoundError for what a person can mend.
    """
    run = RunFolder(request.run)
    asked = _asked(request, run)
    if run.codec.exists() and request.export is None:
        say(f"{run.path} is trained to its end; its codec is {run.codec}. Name a new folder to train another.")
        return run.codec
    with run.kept_if_begun():
        run.path.mkdir(parents=True, exist_ok=True)
        lock = run.lock()
        try:
            _prepare(run, asked, say)
            return _Run(run, asked, request, on_progress or (lambda row: None), say).go()
        finally:
            lock.release()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What decides a run."""

    data: tuple[str, ...]
    codec: str
    identity: str  # of the codec
    reader: ReaderConfig

    def as_dict(self) -> dict:
        return {"system": NAME} | asdict(self)


def _asked(request: ReaderRequest, run: RunFolder) -> _Asked:
    """The folder's settings or the defaults, with the request's on top. Refusal where they do not fit together."""
    held = _held(run)
    if held is None and not request.data:
        raise Refusal(f"{run.path} is no reader's run yet: name passages with --data")
    codec = request.codec or (held.codec if held else str(default_codec_folder(EMBEDDED)))
    codec = local_codec(str(codec))
    (reader,) = replaced(request.settings, held.reader if held else ReaderConfig())
    data = tuple(str(Path(path).absolute()) for path in request.data) or (held.data if held else ())
    asked = _Asked(data, codec, read_settings(codec)["identity"], reader)
    if held is not None and held != asked:
        _require_may(run, held, asked, request.change)
    return asked


def _require_may(run: RunFolder, held: _Asked, asked: _Asked, change: bool) -> None:
    before, after = (each.as_dict() | each.reader.as_dict() for each in (held, asked))
    odd = [name for name in after if after[name] != before[name] and name != "reader"]
    said = "; ".join(f"{name} is {before[name]!r}, asked for {after[name]!r}" for name in odd)
    if any(name not in MAY_CHANGE for name in odd):
        raise Refusal(f"{run.path} is a run of other settings, which cannot change: {said}. New folder?")
    if not change:
        raise Refusal(f"{run.path} is a run of other settings: {said}. --change goes on with the new ones.")


def _held(run: RunFolder) -> _Asked | None:
    if not run.config.exists():
        return None
    try:
        saved = json.loads(run.config.read_text())
        if saved["system"] != NAME:
            raise Refusal(f"{run.path} is a run of {saved['system']}, not of a reader: name a new folder")
        return _Asked(tuple(saved["data"]), saved["codec"], saved["identity"], ReaderConfig(**saved["reader"]))
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"{run.config} is damaged or of another version: {error!r}. Name a new folder.") from None


def _prepare(run: RunFolder, asked: _Asked, say: Callable[[str], object]) -> None:
    """Draw the passages, once a run; write down what was asked for."""
    chosen = run.data / PASSAGES
    if not chosen.exists():
        found, config = Found(), asked.reader
        texts = read_passages(passage_files(asked.data), config.text_column, found)
        passages = choose_passages(texts, config.passages, config.seed)
        for line in found.unreadable:
            say(f"left out, not readable: {line}")
        if len(passages) <= config.held_out:
            raise Refusal(
                f"{len(passages)} passages in {', '.join(asked.data)}, of which {config.held_out} are to be held out: "
                "give more, or --set held_out=N"
            )
        run.data.mkdir(exist_ok=True)
        write_chosen(passages, chosen)
        say(f"{found.passages:,} passages read, {len(passages):,} drawn")
    replace_file(run.config, json.dumps(asked.as_dict(), indent=2) + "\n")


class _Run:
    """What a run holds while it goes."""

    def __init__(self, run: RunFolder, asked: _Asked, request: ReaderRequest, observe, say):
        self.run, self.asked, self.request, self.say = run, asked, request, say
        config, device = asked.reader, default_device()
        precision = default_precision(device) if config.precision == "auto" else config.precision
        codec = load_codec(asked.codec, verifying=VerifyConfig.of(precision), device=device)
        backbone = load_backbone(
            codec.backbone.name, precision=precision, device=device, load_in_4bit=codec.config.load_in_4bit
        )
        start = _start(asked.codec) if config.reads == LATENTS else None
        self.trainer = ReaderTrainer(Reader(codec, backbone, reads=config.reads, start=start, seed=config.seed), config)
        self.exercises = Exercises(
            read_chosen(run.data / PASSAGES),
            backbone.tokenizer,
            chunk_tokens=codec.config.chunk_tokens,
            held_out=config.held_out,
            seed=config.seed,
        )
        self.questions = self.exercises.looked_at()
        self.checkpoints = run.checkpoints(KEPT)
        self.step = self._resume()
        run.forget_after(self.step)
        self.metrics = Metrics(run.metrics, observe)

    def go(self) -> Path | None:
        config, started = self.asked.reader, time.monotonic()
        saved = started
        try:
            if self.request.export is not None:
                return self._write(Path(self.request.export).absolute())
            if self.step == 0:
                self._look()
            while self.step < config.steps:
                self._advance()
                now, late = time.monotonic(), self._is_late(started)
                if late or now - saved > 60 * config.checkpoint_minutes or self.step == config.steps:
                    self._save()
                    saved = now
                if late:
                    return None
                if self.step % config.eval_every == 0 and self.step < config.steps:
                    self._look()
            return self._write(self.run.codec)
        finally:
            self.metrics.close()

    def _advance(self) -> None:
        config, start = self.asked.reader, time.perf_counter()
        batch = self.exercises.batch(self.step, config.batch_size)
        try:
            measured = self.trainer.step(batch, self.step)
        except LossError as error:
            raise Refusal(f"{error}. Go on at a lower rate: --change --set learning_rate=...") from None
        row = {"event": "reader_step", "step": self.step, **measured, "learning_rate": config.rate(self.step)}
        self.step += 1
        seconds = time.perf_counter() - start
        self.metrics.write(row | {"seconds": seconds, "steps_left": config.steps - self.step})

    def _look(self) -> Looked:
        looked = self.trainer.look(self.questions)
        row = {"event": "reader", "step": self.step - 1, "at_end": self.step, **asdict(looked)}
        self.metrics.write(row | {"gap_closed": looked.gap_closed})
        return looked

    def _is_late(self, started: float) -> bool:
        minutes = self.request.minutes
        return minutes is not None and time.monotonic() - started > 60 * minutes

    def _save(self) -> None:
        place = Place(1, 0, self.step, self.step, self.step, self.asked.reader.steps)
        self.checkpoints.write(place, self.trainer.tensors())

    def _resume(self) -> int:
        saved = self.checkpoints.read(self.say)
        if saved is None:
            if self.request.export is not None:
                raise Refusal(f"{self.run.path} has no checkpoint to make a reader of; train there first")
            return 0
        self.trainer.load(saved.tensors)
        self.say(f"going on at step {saved.place.step}")
        return saved.place.step

    def _write(self, out: Path) -> Path:
        looked = self._look()
        asked = replace(self.asked, reader=replace(self.asked.reader, steps=self.step))
        tensors = {name: _smallest(tensor) for name, tensor in self.trainer.reader.tensors().items()}
        return add_reader(self.asked.codec, tensors, out, card=card(asked, looked), reads=self.asked.reader.reads)


def _start(codec: str) -> dict[str, torch.Tensor]:
    """The adapter to begin with: the reader that the codec has, else its decoder, which reads latents already."""
    if has_reader(codec):
        return load_file(Path(codec, READER_TENSORS))
    own = load_file(Path(codec, TENSORS))
    return {f"{NAME}.{name.removeprefix('decoder.')}": own[name] for name in own if name.startswith("decoder.")}


def _smallest(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.bfloat16()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def card(asked: _Asked, looked: Looked) -> str:
    """What the reader was trained on, and how it does on questions that it has not seen."""
    settings = ", ".join(f"{name}={value}" for name, value in asked.reader.as_dict().items())
    return f"""# The reader

A third adapter over the backbone of the codec `{asked.identity}`, trained on its {asked.reader.reads}. The codec
was frozen. The exercises were made of the passages themselves: continuations, and questions about their names, numbers,
dates and places.

| {looked.questions} held-out questions | nats a token of the answer |
|---|---|
| the backbone: the chunk's text | {looked.text:.3f} |
| the backbone: nothing | {looked.nothing:.3f} |
| the backbone: the {asked.reader.reads} | {looked.plain:.3f} |
| the reader: the {asked.reader.reads} | {looked.memory:.3f} |
| the reader: another chunk's {asked.reader.reads} | {looked.foreign:.3f} |

It gets {looked.gap_closed:.0%} of what the text is worth to the backbone.

`nextmem train RUN --system reader --data PASSAGES`, with {settings}
"""
