"""Greedy drafting of one row, several positions a forward: guesses are read together and checked together.

A forward over one position costs a small model nearly what one over sixteen does: its weights are read once either way.
So each forward reads a window of guesses, takes those that greedy decoding itself would have drafted, and keeps its
predictions for the rest as the next guesses. What is drafted is what one position at a time drafts, up to rounding.
A window is never one position long: a product of one row rounds otherwise than all others.
Source: Jacobi decoding (Santilli et al., arXiv 2305.10427); tokens that a patch forces are guesses that cannot fail.

Shapes: S positions of the prefix, L tokens of the draft, W tokens of a window, D hidden width.
"""

from __future__ import annotations

import numpy as np
import torch

from model.backbone import Backbone
from model.cache import roomy_cache
from model.finite import require_finite

GUESSES = 6  # of a window; what a patch forces stands between them and costs next to nothing
LONGEST = 32  # tokens of a window


@torch.inference_mode()
def draft_alone(
    backbone: Backbone, prefix_SD: torch.Tensor, forced_L: np.ndarray, *, guesses: int = GUESSES
) -> np.ndarray:
    """Greedy tokens [L] after the prefix. A position whose `forced_L` is >= 0 takes that token. NotFiniteError."""
    draft = _Draft(backbone, prefix_SD, forced_L)
    while draft.done < len(forced_L):
        draft.go_on(guesses)
    require_finite(draft.sum[None], "a draft's states are", rows="draft")
    return draft.tokens_L


class _Draft:
    """The first `done` of tokens_L are drafted; those after them are guesses, and right where they are forced."""

    def __init__(self, backbone: Backbone, prefix_SD: torch.Tensor, forced_L: np.ndarray):
        self.backbone, self.free_L = backbone, forced_L < 0
        self.tokens_L = np.where(self.free_L, backbone.end_token, forced_L)
        self.start, self.done = len(prefix_SD), 0
        self.cache = roomy_cache(backbone.model.config, self.start + len(forced_L))
        self.sum = torch.zeros((), device=prefix_SD.device)  # of the states that count; NaN and infinity stay in it
        self._take(self._read(prefix_SD)[-1:])

    def go_on(self, guesses: int) -> None:
        """One forward: over the last token taken and what is guessed to follow it."""
        for layer in self.cache.layers:
            layer.length = self.start + self.done - 1
        end = self._window_end(guesses)
        ids_W = torch.from_numpy(self.tokens_L[self.done - 1 : end]).to(self.sum.device)
        self._take(self._read(self.backbone.embed(ids_W)))

    def _window_end(self, guesses: int) -> int:
        free = np.flatnonzero(self.free_L[self.done :])
        end = self.done + int(free[guesses - 1]) + 1 if len(free) >= guesses else len(self.tokens_L)
        return min(end, self.done + LONGEST)

    def _read(self, embeds_WD: torch.Tensor) -> torch.Tensor:
        output = self.backbone.body(inputs_embeds=embeds_WD[None], past_key_values=self.cache, use_cache=True)
        return output.last_hidden_state[0]

    def _take(self, states_WD: torch.Tensor) -> None:
        """What follows each position read: all is drafted up to the first guess that was another token."""
        place = slice(self.done, self.done + len(states_WD))
        guessed_W = self.tokens_L[place].copy()
        greedy_W = self.backbone.head(states_WD).argmax(-1).cpu().numpy()[: len(guessed_W)]
        self.tokens_L[place] = np.where(self.free_L[place], greedy_W, guessed_W)
        wrong_W = np.flatnonzero(self.tokens_L[place][:-1] != guessed_W[:-1])
        taken = int(wrong_W[0]) + 1 if len(wrong_W) else len(guessed_W)
        self.sum += states_WD[:taken].float().sum()
        self.done += taken
