"""The rate: how much of a chunk's latents a row stores. The first few of them, in so many bits a value.

Latents are causal: no latent knows of those after it. And the blocks of the quantiser lie along one latent. So the
first latents of a row are a shorter memory of the same chunk, in the same codec.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model.refusal import Refusal

BITS = (4, 3, 2)
FULL = BITS[0]
BLOCK = 64  # values that share a scale
STANDARDISED, LEADING = "nf4-standardised-64", "nf4-leading-"
_NAME = re.compile(r"^nf([234])-(?:standardised-64|leading-([1-9]\d*))$")


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of a codec's K latents a row stores, and in how many bits a value. Refuses what no row can hold."""

    latents: int | None = None  # the first so many; None: all of them
    bits: int = FULL

    def __post_init__(self):
        if self.latents is not None and self.latents < 1:
            raise Refusal(f"latents is {self.latents}; a row stores at least 1")
        if self.bits not in BITS:
            raise Refusal(f"bits is {self.bits}; a value takes one of {', '.join(map(str, BITS))}")

    def stored(self, num_latents: int) -> int:
        """K': of so many latents a chunk, how many a row stores. Raises Refusal where it asks for more."""
        if self.latents is not None and self.latents > num_latents:
            raise Refusal(f"{self.latents} latents a row were asked for; the codec makes {num_latents} of a chunk")
        return self.latents or num_latents

    def quantiser(self, name: str) -> str:
        """The name of a codec's quantiser (`nf4-...`) at this rate."""
        return re.sub(r"^nf\d-", f"nf{self.bits}-", name)

    @classmethod
    def of(cls, num_latents: int, quantiser: str) -> Rate:
        """Of what a bank records: K' and the quantiser's name."""
        found = _NAME.match(quantiser)
        return cls(num_latents, int(found[1]) if found else FULL)


WHOLE = Rate()
"""All latents, in 4 bits a value."""


def is_quantiser(name: str) -> bool:
    """Whether a codec may name its quantiser so: STANDARDISED, or LEADING with the number of directions."""
    found = _NAME.match(name)
    return bool(found) and int(found[1]) == FULL and int(found[2] or BLOCK) % BLOCK == 0


def row_sizes(quantiser: str, latents: int, hidden_width: int) -> tuple[int, int]:
    """Bytes of a row's codes and of its scales, by what a bank records. ValueError for a quantiser that is none."""
    if not (found := _NAME.match(quantiser)):
        raise ValueError(f"{quantiser!r} is no quantiser")
    blocks = -(-latents * int(found[2] or hidden_width) // BLOCK)
    return blocks * BLOCK * int(found[1]) // 8, 2 * blocks
