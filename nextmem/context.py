"""What of a memory goes into a prompt within a budget, and what it costs there.

Shapes: N chunks, K latents, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from nextmem.hits import Hit
    from nextmem.latents import Latents

TEXT, LATENTS = AS = ("text", "latents")
GAP = "\n\n"  # stands where two chunks do not follow one another in a document


@dataclass(frozen=True, slots=True)
class Context:
    """A piece of prompt. All counts are positions in the context of the bank's backbone."""

    hits: tuple[Hit, ...]  # what is in it, in reading order: chunks of a document side by side
    text: str | None  # the chunks' exact texts, with as_="text"
    latents: Latents | None  # [N, K, D] in the same order, with as_="latents"
    tokens: int  # what it takes: never more than the budget
    text_tokens: int  # what the same chunks take as text
    history_tokens: int  # what everything the memory holds takes as text
    left_out: int  # chunks that the search found too, and that did not fit

    @property
    def embeds(self) -> torch.Tensor:
        """[N * K, D]: the latents as rows for `inputs_embeds` of `Memory.reader`. TypeError for a context of text."""
        if self.latents is None:
            raise TypeError("this context is text: ask for as_='latents'")
        return self.latents.as_embeds().flatten(0, 1)

    @property
    def cost(self) -> dict[str, float]:
        """The tokens, and what share they are of the same chunks' text and of the full history."""
        return {
            "tokens": self.tokens,
            "of_text": self.tokens / self.text_tokens if self.text_tokens else 0.0,
            "of_history": self.tokens / self.history_tokens if self.history_tokens else 0.0,
        }


def that_fit(hits: Sequence[Hit], costs: Mapping[str, int], budget: int) -> list[Hit]:
    """The best hits that fit into the budget together, best first; a smaller one may fit where a larger did not.

    `costs`: positions of each chunk, by its id.
    """
    chosen, left = [], budget
    for hit in hits:
        if costs[hit.chunk_id] <= left:
            chosen.append(hit)
            left -= costs[hit.chunk_id]
    return chosen


def in_reading_order(hits: Sequence[Hit]) -> list[Hit]:
    """Documents by their best hit, each one's chunks as they stand in it."""
    rank = {hit.doc_id: -place for place, hit in reversed(list(enumerate(hits)))}
    return sorted(hits, key=lambda hit: (-rank[hit.doc_id], hit.position))


def joined(hits: Sequence[Hit], texts: Mapping[str, str]) -> str:
    """The chunks' texts, in the order given; neighbours in a document follow one another as they stood there."""
    if not hits:
        return ""
    parts = [texts[hits[0].chunk_id]]
    for before, hit in pairwise(hits):
        follows = hit.doc_id == before.doc_id and hit.position == before.position + 1
        parts += ["" if follows else GAP, texts[hit.chunk_id]]
    return "".join(parts)


def text_within(
    hits: Sequence[Hit], texts: Mapping[str, str], budget: int, count: Callable[[str], int]
) -> tuple[list[Hit], str, int]:
    """(hits in reading order, their text, its tokens), counted as one text: the worst hits go until it fits.

    A text's tokens need not be the sum of its chunks' tokens: a gap takes some, and two chunks may join at a border.
    """
    chosen = list(hits)
    while chosen:
        ordered = in_reading_order(chosen)
        text = joined(ordered, texts)
        if (tokens := count(text)) <= budget:
            return ordered, text, tokens
        chosen.pop()
    return [], "", 0
