"""LoRA per chunk: each text is learned into a small LoRA of its own, which is all that is kept of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from jobs.evaluate.system import Memory, Opening, System
from model.backbone import load_backbone
from model.baselines.chunk_lora import STEP_WORK, ChunkLora, ChunkLoraConfig
from model.baselines.repeat import REQUEST
from model.embedded import EMBEDDED


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    return [ChunkLoraSystem(name, opening)]


class ChunkLoraSystem:
    """Nothing is trained beforehand: the training is the encoding."""

    kind, batch, base = "lora", 8, None
    can = frozenset({"encode", "decode"})

    def __init__(self, name: str, opening: Opening, config: ChunkLoraConfig | None = None):
        backbone = load_backbone(opening.backbone or EMBEDDED, precision=opening.precision, attention="sdpa")
        self.made = ChunkLora(backbone, config)
        settings = dataclasses.asdict(self.made.config)
        self.name = name
        self.identity = f"lora {backbone.fingerprint} {backbone.precision} {settings}"
        self.about: dict[str, object] = {
            "backbone": backbone.name,
            "precision": backbone.precision,
            "request": REQUEST.strip(),
            "values": self.made.injection.values,
            **settings,
        }

    def encode(self, texts: Sequence[str], before: Sequence[Memory] | None = None) -> list[Memory]:
        chunks = [np.array(self.made.backbone.tokenizer.encode(text), dtype=np.int64) for text in texts]
        work = STEP_WORK * self.made.config.steps
        delta_BV = self.made.encode(chunks).numpy()
        return [
            Memory({"lora": delta_V}, len(ids), delta_V.nbytes, work=work)
            for delta_V, ids in zip(delta_BV, chunks, strict=True)
        ]

    def decode(self, memories: Sequence[Memory]) -> list[str]:
        delta_BV = torch.from_numpy(np.stack([memory.parts["lora"] for memory in memories]))
        drafts = self.made.decode(delta_BV, [memory.tokens for memory in memories])
        return [self.made.backbone.tokenizer.decode(ids.tolist()) for ids in drafts]
