"""What the parts work on: the device, a codec, full chunks of real text, and how a figure is written down."""

from __future__ import annotations

import gc
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_check.shapes import random_backbone
from benchmarks.harness import SAMPLES
from model.backbone import Backbone, load_backbone
from model.codec import Codec
from model.codec_io import load_codec
from model.config import CodecConfig, VerifyConfig
from model.default_codec import SHIPPED
from model.embedded import EMBEDDED
from model.precision import default_precision
from model.speed import matmul_rate
from model.untrained import untrained_codec

ROOT = Path(__file__).parents[2]
TINY_CODEC = CodecConfig(chunk_tokens=32, num_latents=3)
LARGE = 8192  # of the square products that a GPU's rate is measured with


class WrongError(Exception):
    """A result that is not what it must be."""


class LeftOutError(Exception):
    """A part that this machine cannot run; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `least`: its target, where it has one."""

    name: str
    value: float | int | str
    unit: str = ""
    least: float | None = None

    def __str__(self) -> str:
        value = f"{self.value:,.4g}" if isinstance(self.value, float) else str(self.value)
        target = "" if self.least is None else f"  target {self.least:g}: "
        verdict = "" if self.least is None else "met" if self.value >= self.least else "MISSED"
        return f"  {self.name:<52} {value} {self.unit}".rstrip() + target + verdict


@dataclass
class Subject:
    """The device and what is loaded on it. `figures`: those of the part that runs."""

    device: str
    tiny: bool = False
    figures: list[Figure] = field(default_factory=list)

    def note(self, name: str, value: float | int | str, unit: str = "", *, least: float | None = None) -> None:
        """Printed as it is known; a tiny model is held to no target."""
        self.figures.append(Figure(name, value, unit, None if self.tiny else least))
        print(self.figures[-1], flush=True)

    @property
    def precision(self) -> str:
        return "fp32" if self.tiny else default_precision(self.device)

    @property
    def verifying(self) -> VerifyConfig:
        """The precision's own margin, and nothing stored as raw token ids: every position is drafted."""
        return VerifyConfig(self.precision, VerifyConfig.of(self.precision).margin, raw_share=1.0)

    @cached_property
    def rate(self) -> float:
        """FLOP/s of matrix products at this precision: the limit."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return matmul_rate(self.device, dtype, size=LARGE if self.on_gpu else 512)

    @property
    def on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    @cached_property
    def codec(self) -> Codec:
        """The shipped one, or an untrained one of its shape where its backbone's weights are not installed."""
        if self.tiny:
            return untrained_codec(self.backbone()[0], TINY_CODEC, verifying=self.verifying)
        backbone, real = self.backbone()
        if not real:
            return untrained_codec(backbone, verifying=self.verifying)
        return load_codec(SHIPPED / EMBEDDED, backbone=backbone, verifying=self.verifying)

    def backbone(self) -> tuple[Backbone, bool]:
        """SmolLM2-135M anew, and whether its weights are the real ones."""
        if self.tiny:
            return load_backbone("tiny-llama", precision=self.precision, device=self.device), True
        try:
            return load_backbone(EMBEDDED, precision=self.precision, device=self.device), True
        except ImportError as error:  # the package of the weights, or what converts them
            print(f"  random weights of the shape of {EMBEDDED}: {error}", flush=True)
            return random_backbone(EMBEDDED, self.precision, self.device), False

    def chunks(self, count: int) -> list[np.ndarray]:
        """Full chunks of the sample articles, from the first again where there are too few."""
        limit = self.codec.config.chunk_tokens
        full = [ids for cut in self.codec.tokenizer.cut_many(texts(), limit) for ids in cut if len(ids) == limit]
        return list(itertools.islice(itertools.cycle(full), count))

    def seconds(self, run: Callable[[], object], *, rounds: int = 3) -> float:
        """The least of a few, after one to warm up."""
        run()
        return min(self.once(run) for _ in range(rounds))

    def once(self, run: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def free(self) -> None:
        """Give back what a part leaves, the codec aside."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def texts() -> list[str]:
    return [json.loads(line)["text"] for line in (ROOT / SAMPLES).read_text(encoding="utf-8").splitlines()]
