"""DyPRAG in training: a translator of states to weights, as published or end to end towards the text.

As published (arXiv 2503.23895) it learns to make the LoRA that a passage of its own would train: cross-entropy, the
divergence from that LoRA's predictions, and the squared error of its weights. The targets are made in the step that
uses them, from one shared start, so a run stores none and resumes exactly. Its prompts are the passage alone: the
rewrites and questions of the original need another model to write them.

`dyprag-ours` is the fair one: the backbone, with the difference in place, is asked to repeat the text.
Shapes: B texts, L tokens, D hidden width, V values of a difference, N labels, R rows of a slice, W vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.backbone import Backbone
from model.baselines.injection import Injection, fit
from model.baselines.repeat import reading, repeated, repeating
from model.baselines.saved import Card, save_system
from model.baselines.translator import Translator, last_states
from model.config import CodecConfig
from model.speed import body_weights
from model.training.curriculum import Place, TrainConfig
from model.training.losses import Batch, Scored, make_batch
from model.training.sampling import Sample

RANK, ALPHA = 2, 32
TARGET_STEPS, TARGET_RATE = 4, 3e-4  # of a passage's own LoRA: an epoch of its few prompts
DIVERGENCE, WEIGHTS = 0.01, 100.0  # what the published loss multiplies its other two parts by
ROWS = 256  # labels whose predictions are compared at once


class Translating:
    """What `jobs/train` trains in a codec's place. `name`: dyprag or dyprag-ours."""

    slots_KD = None

    def __init__(self, backbone: Backbone, config: CodecConfig, name: str, *, seed: int = 0):
        self.backbone, self.config, self.name = backbone, config, name
        self.as_published = name == "dyprag"
        self.injection = Injection(backbone, RANK)
        self.translator = Translator(self.injection, backbone.width, small_start=self.as_published, seed=seed)
        self.translator.to(backbone.device)
        self._start_V = self.injection.start(seed=seed).to(backbone.device)
        self._sizes = body_weights(backbone), backbone.head.weight.numel()

    def prepare(self, config: TrainConfig) -> None:
        """Nothing: `require_trainable` has refused what would ask for something."""

    def train(self, stage: int, trains: str) -> dict[str, nn.Parameter]:
        """All of the translator, by name."""
        return dict(self.translator.named_parameters())

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Nothing is merged, so nothing is to be kept."""
        yield

    def delta(self, batch: Batch) -> torch.Tensor:
        """float32 [B, V], with gradient to the translator."""
        return self.translator(last_states(self.backbone, batch.ids_BL, batch.lengths_B))

    def score(self, batch: Batch, place: Place, *, quantise: bool = False) -> Scored:
        """The value is always that of the text's own labels; the gradient is the whole published loss's."""
        delta_BV = self.delta(batch)
        if not self.as_published:
            with self.injection.of(delta_BV):
                return repeating(self.backbone, batch)
        with self.injection.of(delta_BV):
            scored = reading(self.backbone, batch)
        if not torch.is_grad_enabled():
            return scored
        more = self._towards_targets(delta_BV, batch)
        return Scored(scored.loss + more - more.detach(), scored.correct)

    def plain(self, batch: Batch) -> Scored:
        """The backbone's own loss on the same labels, nothing injected: what a useful difference must beat."""
        return reading(self.backbone, batch)

    def sample(self, chunk_L: np.ndarray, place: Place) -> Sample:
        """What the backbone says of a chunk when asked to repeat it."""
        (tokens,) = self.drafts([chunk_L])
        decode = self.backbone.tokenizer.decode
        return Sample(decode(chunk_L), decode(tokens), tokens.tolist() == chunk_L.tolist())

    @torch.no_grad()
    def drafts(self, chunks: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Greedy answers to the request, each chunk's difference in place."""
        with self.injection.of(self.delta(make_batch(chunks, self.backbone.device))):
            return repeated(self.backbone, [len(chunk) for chunk in chunks])

    def flop(self, lengths: np.ndarray, place: Place) -> float:
        """Of a step: the state's forward, the loss's forward and backward, and those of the targets."""
        weights, head = self._sizes
        positions, labels = float(np.sum(lengths)), float(np.sum(lengths) + len(lengths))
        asked = 1.0 + (TARGET_STEPS + 1.0 if self.as_published else 0.0)
        return 2.0 * weights * positions + asked * (4.0 * weights + 4.0 * head) * labels

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that makes this translator, on the CPU, for a checkpoint."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.translator.state_dict().items()}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """From a checkpoint's tensors; others among them are passed over."""
        self.translator.load_state_dict({name: tensors[name] for name in self.translator.state_dict()})

    def save(self, folder: Path) -> None:
        """The folder that `nextmem evaluate` opens."""
        card = Card.of(self.name, self.backbone, {"chunk_tokens": self.config.chunk_tokens})
        save_system(folder, card, self.tensors())

    def _towards_targets(self, delta_BV: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The published loss's other two parts, weighted so that they are means over chunks and labels of a batch.

        A target acts times alpha / rank and what is injected times 1: an inconsistency of the release, kept here.
        """
        scale = ALPHA / RANK
        start_BV = self._start_V.expand(len(delta_BV), -1)
        target_BV = fit(
            self.injection,
            start_BV,
            lambda: reading(self.backbone, batch).loss,
            steps=TARGET_STEPS,
            rate=TARGET_RATE,
            scale=scale,
        )
        labels_B = batch.lengths_B + 1
        error = ((delta_BV - target_BV).square().sum(1) * labels_B).sum()
        with torch.no_grad(), self.injection.of(target_BV, scale=scale):
            wanted_ND = self._states(batch)
        with self.injection.of(delta_BV):
            found_ND = self._states(batch)
        head = self.backbone.head.weight
        pairs = zip(wanted_ND.split(ROWS), found_ND.split(ROWS), strict=True)
        divergence = sum(checkpoint(_divergence, *pair, head, use_reentrant=False) for pair in pairs)
        return WEIGHTS * error + DIVERGENCE * divergence

    def _states(self, batch: Batch) -> torch.Tensor:
        """[N, D] before each label, read as a document's start."""
        backbone, (rows, longest) = self.backbone, batch.ids_BL.shape
        ids_BP = torch.nn.functional.pad(batch.ids_BL, (1, 0), value=backbone.end_token)
        hidden_BPD = backbone.body(inputs_embeds=backbone.embed(ids_BP), use_cache=False).last_hidden_state
        places_P = torch.arange(longest + 1, device=ids_BP.device).expand(rows, -1)
        return hidden_BPD[places_P <= batch.lengths_B[:, None]]


def _divergence(wanted_RD: torch.Tensor, found_RD: torch.Tensor, head_WD: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of what is found from what is wanted, summed over labels."""
    wanted_RW, found_RW = ((states @ head_WD.T).float().log_softmax(-1) for states in (wanted_RD, found_RD))
    return nn.functional.kl_div(found_RW, wanted_RW, reduction="sum", log_target=True)
