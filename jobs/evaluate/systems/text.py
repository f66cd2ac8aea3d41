"""Text memory: the text itself is kept. What every other memory is measured against, and no worse than any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.evaluate.system import Memory, Opening, System
from model.embedded import EMBEDDED
from model.tokens import TextTokenizer
from model.weights import find_weights


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    return [TextMemory(name, find_weights(opening.backbone or EMBEDDED).tokenizer())]


class TextMemory:
    """Gives every text back, takes half a kilobyte a chunk, and all its tokens of the reader's context."""

    kind, batch, base = "text", 1024, None
    can = frozenset({"encode", "decode", "recall"})

    def __init__(self, name: str, tokenizer: TextTokenizer):
        self.name, self._tokenizer = name, tokenizer
        self.identity = f"text {tokenizer.fingerprint}"
        self.about: dict[str, object] = {}

    def encode(self, texts: Sequence[str], before: Sequence[Memory] | None = None) -> list[Memory]:
        made = []
        for text in texts:
            kept = text.encode("utf-8", "surrogatepass")
            parts = {"utf8": np.frombuffer(kept, dtype=np.uint8)}
            made.append(Memory(parts, len(self._tokenizer.encode(text)), len(kept), 0, 1.0, 0.0))
        return made

    def decode(self, memories: Sequence[Memory]) -> list[str]:
        return [memory.parts["utf8"].tobytes().decode("utf-8", "surrogatepass") for memory in memories]

    def recall(self, memories: Sequence[Memory]) -> list[str]:
        return self.decode(memories)
