"""LoRA per chunk: a text learned into weights of its own. Parametric memory in numbers, and the dearest there is.

Shapes: B texts, L tokens, V values of one text's LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.backbone import Backbone
from model.baselines.injection import Injection, fit
from model.baselines.repeat import repeated, repeating
from model.refusal import Refusal
from model.training.losses import make_batch

STEP_WORK = 3.0  # encodes that a step costs: a forward, and a backward through activations of twice its work


@dataclass(frozen=True, slots=True)
class ChunkLoraConfig:
    """What a text's LoRA is and how long it learns."""

    rank: int = 2
    alpha: int = 32
    steps: int = 60
    learning_rate: float = 3e-3

    def __post_init__(self):
        for name in ("rank", "alpha", "steps"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name} of a chunk's LoRA is {getattr(self, name)}; it must be at least 1")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class ChunkLora:
    """Texts to LoRAs and back, over one backbone that stays as it is."""

    def __init__(self, backbone: Backbone, config: ChunkLoraConfig | None = None):
        self.backbone, self.config = backbone, config or ChunkLoraConfig()
        self.injection = Injection(backbone, self.config.rank)

    def encode(self, chunks: Sequence[np.ndarray]) -> torch.Tensor:
        """float16 [B, V] on the CPU: what is stored."""
        config, batch = self.config, make_batch(chunks, self.backbone.device)
        start_BV = self.injection.start().to(self.backbone.device).expand(len(chunks), -1)
        delta_BV = fit(
            self.injection,
            start_BV,
            lambda: repeating(self.backbone, batch).loss,
            steps=config.steps,
            rate=config.learning_rate,
            scale=config.scale,
        )
        return delta_BV.half().cpu()

    def decode(self, delta_BV: torch.Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
        """What the backbone says with each LoRA in place, asked to repeat its input. Texts were `lengths` tokens."""
        with self.injection.of(delta_BV.float().to(self.backbone.device), scale=self.config.scale):
            return repeated(self.backbone, lengths)
