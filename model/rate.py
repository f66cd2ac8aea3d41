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
_NAME = re.compile(r"^nf(\d)-")  # how the name of a quantiser begins


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
        return _NAME.sub(f"nf{self.bits}-", name)

    @classmethod
    def of(cls, num_latents: int, quantiser: str) -> Rate:
        """Of what a bank records: K' and the quantiser's name."""
        found = _NAME.match(quantiser)
        return cls(num_latents, int(found[1]) if found else FULL)


WHOLE = Rate()
"""All latents, in 4 bits a value."""
