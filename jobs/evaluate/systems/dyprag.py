"""DyPRAG: a text's last state, which a trained translator turns into a difference of the backbone's weights.

The state is what is kept: the difference is 330 times as large and follows from it. Its answer to "Repeat the input."
counts as what the memory gives back. The difference is read here; a stock model class would pass it over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from jobs.evaluate.budget import budget
from jobs.evaluate.system import Memory, Opening, System
from model.backbone import load_backbone
from model.baselines.dyprag import Translating
from model.baselines.repeat import REQUEST, repeated
from model.baselines.saved import read_card, read_tensors
from model.baselines.translator import last_states
from model.config import CodecConfig
from model.refusal import Missing
from model.training.losses import make_batch


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    """Raises what `read_tensors` raises."""
    if folder is None:
        raise Missing(f"{name} is trained first: `nextmem train RUN --system {name} --data PASSAGES`, then RUN/codec")
    return [DypragSystem(name, folder, opening)]


class DypragSystem:
    """A translator, opened from its folder."""

    kind, batch, base = "dyprag", 16, None
    can = frozenset({"encode", "decode"})

    def __init__(self, name: str, folder: Path, opening: Opening):
        card = read_card(folder)
        backbone = load_backbone(opening.backbone or card.backbone, precision=opening.precision, attention="sdpa")
        tensors = read_tensors(folder, backbone)
        self.made = Translating(backbone, CodecConfig(), card.system)
        self.made.load(tensors)
        self.name, self.identity = name, f"{card.system} {card.identity} {backbone.precision}"
        self.about: dict[str, object] = {
            "system": card.system,
            "backbone": backbone.name,
            "precision": backbone.precision,
            "request": REQUEST.strip(),
            "translator_weights": sum(parameter.numel() for parameter in self.made.translator.parameters()),
            "injected_values": self.made.injection.values,
            **card.settings,
            **budget(folder),
        }

    @torch.no_grad()
    def encode(self, texts: Sequence[str], before: Sequence[Memory] | None = None) -> list[Memory]:
        backbone = self.made.backbone
        chunks = [np.array(backbone.tokenizer.encode(text), dtype=np.int64) for text in texts]
        batch = make_batch(chunks, backbone.device)
        states_BD = last_states(backbone, batch.ids_BL, batch.lengths_B).cpu().numpy()
        kept = [
            Memory({"state": state_D}, len(ids), state_D.nbytes) for state_D, ids in zip(states_BD, chunks, strict=True)
        ]
        return kept

    @torch.no_grad()
    def decode(self, memories: Sequence[Memory]) -> list[str]:
        states_BD = torch.from_numpy(np.stack([memory.parts["state"] for memory in memories]))
        delta_BV = self.made.translator(states_BD.to(self.made.backbone.device))
        with self.made.injection.of(delta_BV):
            drafts = repeated(self.made.backbone, [memory.tokens for memory in memories])
        return [self.made.backbone.tokenizer.decode(ids.tolist()) for ids in drafts]
