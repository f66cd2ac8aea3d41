"""Find the tokens that were encoded where a draft differs from them.

Verifying forces every position that is wrong, or right by less than a margin. Logits computed on another machine, or in
batches of another size, round otherwise; now and then a lead above the margin is gone, and the draft goes astray from
there on. Before that position the draft is right, and there the true token came second. So a best-first search turns
the near ties of a draft one at a time and drafts on, until the row's hash says that these are the tokens.

Shapes: L text tokens, S positions before them, D hidden width.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model.latents import Reading

WIDTH = 16  # near ties of one draft that are tried, and drafts made at once
ROUNDS = 4  # batches of drafts before a row is given up
REACH = 2.0  # margins within which a lead counts as a near tie


@dataclass(frozen=True, slots=True)
class Mender:
    """Looks for a row's tokens with a codec's two forwards."""

    draft: Callable[[torch.Tensor, Sequence[np.ndarray]], list[np.ndarray]]  # prefixes [B, S, D], forced [L] to tokens
    read: Callable[[torch.Tensor, torch.Tensor], Reading]  # prefixes [B, S, D], tokens [B, L]: the verifying forward
    margin: float  # logits

    def mend(
        self,
        prefix_SD: torch.Tensor,
        forced_L: np.ndarray,
        tokens_L: np.ndarray,
        matches: Callable[[np.ndarray], bool],
    ) -> np.ndarray | None:
        """The tokens [L] that match, or None. tokens_L is the draft that does not, forced_L what the patch forces."""
        untried: list[tuple[int, int, np.ndarray]] = []
        ranks, forced, drafts = [0], [forced_L], [tokens_L]
        serial = 0  # among equal ranks the older first; arrays cannot be compared
        for _ in range(ROUNDS):
            for rank, turned_L in self._turned(prefix_SD, ranks, forced, drafts):
                heapq.heappush(untried, (rank, serial := serial + 1, turned_L))
            if not untried:
                return None
            next_ones = [heapq.heappop(untried) for _ in range(min(WIDTH, len(untried)))]
            ranks, forced = [rank for rank, _, _ in next_ones], [turned_L for _, _, turned_L in next_ones]
            drafts = self.draft(prefix_SD.expand(len(forced), -1, -1), forced)
            for draft_L in drafts:
                if matches(draft_L):
                    return draft_L
        return None

    def _turned(self, prefix_SD, ranks, forced, drafts) -> Iterator[tuple[int, np.ndarray]]:
        """Each draft's first near ties with the other token forced, and everything before it as drafted.

        The rank counts the near ties passed over, so that what turns the fewest and the earliest is tried first.
        """
        ids_BL = torch.from_numpy(np.stack(drafts)).to(prefix_SD.device)
        reading = self.read(prefix_SD.expand(len(drafts), -1, -1), ids_BL)
        lead_BL, rival_BL = reading.lead_BL.cpu().numpy(), reading.rival_BL.cpu().numpy()
        for rank, forced_L, draft_L, lead_L, rival_L in zip(ranks, forced, drafts, lead_BL, rival_BL, strict=True):
            near = np.flatnonzero((forced_L < 0) & (lead_L <= REACH * self.margin))[:WIDTH]
            for place, at in enumerate(near, start=1):
                yield rank + place, np.concatenate([draft_L[:at], rival_L[at : at + 1], forced_L[at + 1 :]])
