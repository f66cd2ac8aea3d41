"""The reader: the plain backbone, which has a text, or a memory's latents, or nothing, and answers a question.

It says two things: how likely the reference answer is to it (nats, teacher-forced), and what it answers by itself.
Shapes: B prompts, S positions of a prompt, A answer tokens, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache

from jobs.evaluate.system import Answer, Question
from model.backbone import Backbone, load_backbone
from model.reconstruction import guessed

MOST_TOKENS = 24  # of an answer that the reader gives by itself; a line's end ends it before


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a question is put: the memory, or the text, stands where {context} is. A value, printed with the results."""

    template: str = "{context}\n\nQuestion: {question}\nAnswer in a few words.\nAnswer:"

    def ask(self, question: str, answer: str) -> Question:
        before, _, after = self.template.partition("{context}")
        return Question(before, after.replace("{question}", question), " " + answer)


class Reader:
    """A backbone without adapters. `identity` names the weights and the precision that it reads with."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.identity = f"reader {backbone.fingerprint} {backbone.precision}"

    def embedded(self, text: str) -> torch.Tensor:
        """[S, D]; an empty text is no position."""
        ids = self.backbone.tokenizer.encode(text) if text else []
        return self.backbone.embed(torch.tensor(ids, dtype=torch.long, device=self.backbone.device))

    @torch.inference_mode()
    def read(self, contexts: Sequence[torch.Tensor], questions: Sequence[Question]) -> list[Answer]:
        """One answer a question. `contexts`: embeddings [S, D] that stand at the memory's place, each of its length.

        ValueError for embeddings of another width than the reader's.
        """
        prompts = [self._prompt(context, question) for context, question in zip(contexts, questions, strict=True)]
        prompt_BSD, mask_BS = _left_padded(prompts)
        cache = DynamicCache()
        with self.backbone.attending("sdpa"):
            last_BD = self._forward(prompt_BSD, mask_BS, cache)[:, -1]
            said = self._greedy(last_BD, mask_BS, cache)
            if said_more := cache.get_seq_length() - prompt_BSD.shape[1]:
                cache.crop(-said_more)
            references = [self.backbone.tokenizer.encode(question.answer) for question in questions]
            nats = self._nats(last_BD, mask_BS, cache, references)
        return [Answer(loss, len(ids), text) for loss, ids, text in zip(nats, references, said, strict=True)]

    def read_texts(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Answer]:
        """`read` of texts; an empty one is none at all."""
        return self.read([self.embedded(text) for text in texts], questions)

    def guessed(self, texts: Sequence[str]) -> list[float]:
        """Share of each text's positions that the reader gets right without any memory of it."""
        return guessed(self.backbone, [np.array(self.backbone.tokenizer.encode(text)) for text in texts])

    def _prompt(self, context_SD: torch.Tensor, question: Question) -> torch.Tensor:
        if context_SD.shape[-1] != self.backbone.width:
            raise ValueError(
                f"latents of width {context_SD.shape[-1]} before a reader of width {self.backbone.width}: "
                "read them with the backbone that they were made on"
            )
        start = torch.tensor([self.backbone.end_token], device=self.backbone.device)  # begins a document
        parts = [self.backbone.embed(start), self.embedded(question.before), context_SD, self.embedded(question.after)]
        return torch.cat([part.to(self.backbone.device, self.backbone.dtype) for part in parts])

    def _forward(self, embeds_BSD: torch.Tensor, mask_BS: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """States [B, S, D] of the new positions; the mask covers what the cache holds, too."""
        places_BS = (mask_BS.long().cumsum(-1) - 1).clamp_min(0)[:, -embeds_BSD.shape[1] :]
        return self.backbone.body(
            inputs_embeds=embeds_BSD,
            attention_mask=mask_BS,
            position_ids=places_BS,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _greedy(self, state_BD: torch.Tensor, mask_BS: torch.Tensor, cache: DynamicCache) -> list[str]:
        """Until each has said a line or ended, MOST_TOKENS at most."""
        tokens_BA = torch.empty((len(state_BD), 0), dtype=torch.long, device=state_BD.device)
        while True:
            tokens_BA = torch.cat([tokens_BA, self.backbone.head(state_BD).argmax(-1)[:, None]], dim=1)
            said = [self._said(row) for row in tokens_BA.tolist()]
            if tokens_BA.shape[1] == MOST_TOKENS or all(ended for _, ended in said):
                return [line for line, _ in said]
            mask_BS = _grown(mask_BS, 1)
            state_BD = self._forward(self.backbone.embed(tokens_BA[:, -1:]), mask_BS, cache)[:, -1]

    def _said(self, ids: list[int]) -> tuple[str, bool]:
        """The first line that says anything, and whether it is over, or the whole text is."""
        end = self.backbone.end_token
        text = self.backbone.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)
        line, newline, _ = text.lstrip().partition("\n")
        return line.strip(), bool(newline) or end in ids

    def _nats(
        self, last_BD: torch.Tensor, mask_BS: torch.Tensor, cache: DynamicCache, references: Sequence[list[int]]
    ) -> list[float]:
        """Summed over each reference's tokens, the prompt given."""
        longest = max(map(len, references))
        ids_BA = torch.tensor([ids + [0] * (longest - len(ids)) for ids in references], device=last_BD.device)
        states_BAD = last_BD[:, None]
        if longest > 1:
            more = self._forward(self.backbone.embed(ids_BA[:, :-1]), _grown(mask_BS, longest - 1), cache)
            states_BAD = torch.cat([states_BAD, more], dim=1)
        logits_BVA = self.backbone.head(states_BAD).float().transpose(1, 2)
        nats_BA = torch.nn.functional.cross_entropy(logits_BVA, ids_BA, reduction="none")
        return [float(row[: len(ids)].sum()) for row, ids in zip(nats_BA, references, strict=True)]


def open_reader(backbone: str, precision: str) -> Reader:
    """Raises what `load_backbone` raises."""
    return Reader(load_backbone(backbone, precision=precision))


def _grown(mask_BS: torch.Tensor, by: int) -> torch.Tensor:
    return torch.nn.functional.pad(mask_BS, (0, by), value=1)


def _left_padded(prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings [B, S, D] and which of them are real [B, S]."""
    longest = max(map(len, prompts))
    padded = [torch.nn.functional.pad(each, (0, 0, longest - len(each), 0)) for each in prompts]
    mask_BS = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts])
    return torch.stack(padded), mask_BS.to(padded[0].device)
