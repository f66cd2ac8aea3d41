"""What a reader is trained on, and its loss: prompts with a memory in them, read by the reader and by its teacher.

The teacher is the same backbone without the adapter. It reads the chunks' text where the reader reads their latents,
or nothing where the memory is foreign. Of a continuation the loss is the divergence from the teacher's predictions; of
an answer that and the cross-entropy; of a prompt without a memory of its own the divergence.
Shapes: B prompts, S positions, K latents, D hidden width, N target tokens, R rows of a slice, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from model.adapters import adapter_tensors, add_adapters, set_adapter_tensors
from model.backbone import Backbone
from model.codec import Codec
from model.reader import NAME

KINDS = CONTINUATION, ANSWER, WITHOUT = ("continuation", "answer", "without")
READS = LATENTS, TEXT = ("latents", "text")
GAP = "\n\n"  # between chunks of text
ROWS = 256  # target tokens whose predictions are compared at once


@dataclass(frozen=True, slots=True)
class Exercise:
    """One prompt: `before`, the memory of `chunks`, `after`, and what is to follow. All are token ids."""

    kind: str
    chunks: tuple[np.ndarray, ...]  # 1 to chunk_tokens each; none: a prompt without memory
    before: np.ndarray
    after: np.ndarray
    target: np.ndarray  # at least one


class Reader:
    """The adapter in training, on a backbone of its own; the codec only encodes. `reads`: the memory as it sees it.

    A reader of latents starts from the decoder's adapter, which reads them already; one of text from nothing.
    """

    def __init__(
        self,
        codec: Codec,
        backbone: Backbone,
        *,
        reads: str = LATENTS,
        start: dict[str, torch.Tensor] | None = None,
        seed: int = 0,
    ):
        self.codec, self.backbone, self.reads = codec, backbone, reads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.wrapped = add_adapters(backbone, codec.config, (NAME,))
        if start:
            set_adapter_tensors(self.wrapped, start, (NAME,))
        self.trained = {name: each for name, each in self.wrapped.named_parameters() if f".{NAME}." in name}
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self._gap = np.asarray(backbone.tokenizer.encode(GAP), np.int64)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The adapter's, by `reader.<layer>`, on the CPU."""
        return adapter_tensors(self.wrapped, (NAME,))

    def losses(self, exercises: Sequence[Exercise], latents: dict[bytes, torch.Tensor]) -> torch.Tensor:
        """Each exercise's loss [B], a mean over its target's tokens, with gradient to the adapter.

        `latents`: what `encoded` gave for these and others.
        """
        labels_N = self._labels(exercises)
        with torch.no_grad(), self.wrapped.disable_adapter():
            taught = [self._prompt(each, () if each.kind == WITHOUT else each.chunks, TEXT, {}) for each in exercises]
            wanted_ND = self._states(taught, exercises)
        for parameter in self.trained.values():  # peft freezes what it switches off
            parameter.requires_grad_(True)
        prompts = [self._prompt(each, each.chunks, self.reads, latents) for each in exercises]
        found_ND = self._states(prompts, exercises)
        weight_N = torch.tensor([float(each.kind == ANSWER) for each in exercises for _ in each.target])
        head, weight_N = self.backbone.head.weight, weight_N.to(labels_N.device)
        parts = zip(
            wanted_ND.split(ROWS), found_ND.split(ROWS), labels_N.split(ROWS), weight_N.split(ROWS), strict=True
        )
        loss_N = torch.cat([checkpoint(_loss, *part, head, use_reentrant=False) for part in parts])
        return torch.stack([each.mean() for each in loss_N.split([len(e.target) for e in exercises])])

    @torch.no_grad()
    def encoded(self, exercises: Sequence[Exercise]) -> dict[bytes, torch.Tensor]:
        """Latents [K, D] of each chunk, by its bytes, as a bank gives them back, through the gain."""
        chunks = {chunk.tobytes(): chunk for each in exercises for chunk in each.chunks}
        if not chunks or self.reads == TEXT:
            return {}
        latents_BKD = self.codec.encode(*self.codec.pad(list(chunks.values())))
        stored_BKD = self.codec.dequantise(*self.codec.quantise(latents_BKD))
        read_BKD = self.codec.as_embeds(stored_BKD).to(self.backbone.device, self.backbone.dtype)
        return dict(zip(chunks, read_BKD, strict=True))

    @torch.no_grad()
    def nats(
        self, exercises: Sequence[Exercise], latents: dict[bytes, torch.Tensor], *, reads: str, adapted: bool
    ) -> torch.Tensor:
        """Nats of each exercise's target, summed over its tokens, [B]: read with the adapter, or by the backbone."""
        prompts = [self._prompt(each, each.chunks, reads, latents) for each in exercises]
        with nullcontext() if adapted else self.wrapped.disable_adapter():
            states_ND = self._states(prompts, exercises)
        logits_NV = self.backbone.head(states_ND).float()
        nats_N = torch.nn.functional.cross_entropy(logits_NV, self._labels(exercises), reduction="none")
        return torch.stack([each.sum() for each in nats_N.split([len(e.target) for e in exercises])])

    def _prompt(
        self, exercise: Exercise, chunks: tuple[np.ndarray, ...], reads: str, latents: dict[bytes, torch.Tensor]
    ) -> torch.Tensor:
        """[S, D]: the start of a document, then the exercise's parts, all but the last token of its target."""
        parts = [self._embedded(np.array([self.backbone.end_token])), self._embedded(exercise.before)]
        for place, chunk in enumerate(chunks):
            if reads == LATENTS:
                parts.append(latents[chunk.tobytes()])
            else:
                parts += [self._embedded(self._gap)] * bool(place) + [self._embedded(chunk)]
        return torch.cat([*parts, self._embedded(exercise.after), self._embedded(exercise.target[:-1])])

    def _embedded(self, ids: np.ndarray) -> torch.Tensor:
        return self.backbone.embed(torch.as_tensor(ids, dtype=torch.long, device=self.backbone.device))

    def _states(self, prompts: Sequence[torch.Tensor], exercises: Sequence[Exercise]) -> torch.Tensor:
        """[N, D] before each target token. Prompts are right-padded, which causal attention cannot see."""
        embeds_BSD = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
        with self.backbone.attending("sdpa"):
            hidden_BSD = self.backbone.body(inputs_embeds=embeds_BSD, use_cache=False).last_hidden_state
        ends = zip(hidden_BSD, prompts, exercises, strict=True)
        return torch.cat([row[len(prompt) - len(each.target) : len(prompt)] for row, prompt, each in ends])

    def _labels(self, exercises: Sequence[Exercise]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([each.target for each in exercises])).to(self.backbone.device)


def _loss(wanted_RD, found_RD, labels_R, weight_R, head_VD) -> torch.Tensor:
    """[R]: the divergence of what is found from what is wanted, and so much of the label's nats."""
    wanted_RV, found_RV = ((states @ head_VD.T).float().log_softmax(-1) for states in (wanted_RD, found_RD))
    divergence_R = torch.nn.functional.kl_div(found_RV, wanted_RV, reduction="none", log_target=True).sum(-1)
    return divergence_R - weight_R * found_RV.gather(-1, labels_R[:, None])[:, 0]
