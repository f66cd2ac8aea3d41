"""Tokenised chunks as a map from index to ids, and which of them a step reads.

Files: tokens.npy int32 [T], all chunks one after another, and offsets.npy int64 [N + 1]; the first `held_out` chunks
are kept out of training. They are memory-mapped, so every worker of a machine shares one copy.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.refusal import Refusal

TOKENS, OFFSETS, CARD = "tokens.npy", "offsets.npy", "data.json"
VERSION = 2  # of the data: 1 was cut every so many ids, not where encoding cuts
WINDOW = 64  # batches that are drawn together and sorted by length: long enough to group, short enough to stay random


@dataclass(frozen=True, slots=True)
class Passages:
    """Chunks of a run. `held_out`: how many, from the first on, are not trained on."""

    tokens_T: np.ndarray
    offsets_N: np.ndarray
    held_out: int

    @classmethod
    def open(cls, folder: str | Path) -> Passages:
        """Raises FileNotFoundError where the folder is not whole."""
        folder = Path(folder)
        card = json.loads((folder / CARD).read_text())
        return cls(np.load(folder / TOKENS, mmap_mode="r"), np.load(folder / OFFSETS), card["held_out"])

    def __len__(self) -> int:
        return len(self.offsets_N) - 1

    @property
    def lengths_N(self) -> np.ndarray:  # noqa: N802
        return np.diff(self.offsets_N)

    def chunk(self, index: int) -> np.ndarray:
        """int64 [L]"""
        return self.tokens_T[self.offsets_N[index] : self.offsets_N[index + 1]].astype(np.int64)

    def first_chunks(self, tokens: int) -> list[np.ndarray]:
        """As many of the first chunks as it takes to hold so many tokens."""
        count = int(np.searchsorted(self.offsets_N[1:], tokens)) + 1
        return [self.chunk(i) for i in range(min(count, len(self)))]

    def held_out_chunks(self) -> list[np.ndarray]:
        return [self.chunk(i) for i in range(self.held_out)]


def data_version(folder: Path) -> int | None:
    """Which VERSION wrote the folder; None where no data lies there."""
    try:
        return json.loads((folder / CARD).read_text()).get("version", 1)
    except FileNotFoundError:
        return None


def write_passages(chunks: Sequence[np.ndarray], folder: Path, *, held_out: int, card: dict) -> None:
    """The folder appears whole, in place of data that lay there. `card`: what a person may want to know of the data."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    card = card | {"version": VERSION, "held_out": held_out, "chunks": len(chunks)}
    try:
        np.save(temporary / TOKENS, np.concatenate(chunks).astype(np.int32))
        np.save(temporary / OFFSETS, np.concatenate([[0], np.cumsum([len(c) for c in chunks])]).astype(np.int64))
        (temporary / CARD).write_text(json.dumps(card, indent=2) + "\n")
        os.chmod(temporary, 0o755)
        if data_version(folder) is not None:
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Sampler:
    """Which chunks step `step` reads: a function of seed and step alone, so any number of workers resumes anywhere.

    An epoch is a seeded permutation; windows of it are sorted by length, cut into batches, and the batches shuffled.
    Chunks that no whole batch takes wait for the next epoch's permutation.
    """

    def __init__(self, lengths_N: np.ndarray, *, batch_size: int, seed: int, first: int = 0):
        if len(lengths_N) <= first:
            raise Refusal(f"{len(lengths_N)} chunks, {first} of them held out: none is left to train on")
        self.lengths_N, self.seed, self.first = lengths_N, seed, first
        self.batch_size = min(batch_size, len(lengths_N) - first)
        self.batches = (len(lengths_N) - first) // self.batch_size  # an epoch
        self._epoch, self._order = -1, None

    def batch(self, step: int) -> np.ndarray:
        """Chunk indices [batch_size] of a step, nearly of one length, longest first."""
        epoch, place = divmod(step, self.batches)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._permuted(epoch)
        return self._order[place]

    def _permuted(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        order = self.first + rng.permutation(len(self.lengths_N) - self.first)[: self.batches * self.batch_size]
        windows = np.split(order, range(WINDOW * self.batch_size, len(order), WINDOW * self.batch_size))
        by_length = [window[np.argsort(-self.lengths_N[window], kind="stable")] for window in windows]
        batches = np.concatenate(by_length).reshape(self.batches, self.batch_size)
        return batches[rng.permutation(self.batches)]
