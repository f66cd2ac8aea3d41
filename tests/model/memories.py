"""Chunks to stored rows and back, as the pipeline does it, with a comparison of tokens in place of a hash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.codec import Codec
from model.memory import Memory, StoredMemory


def random_chunks(codec: Codec, lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, codec.backbone.vocab_size, length).astype(np.int32) for length in lengths]


def stored(memory: Memory, chunk: np.ndarray, **changes) -> StoredMemory:
    row = StoredMemory(
        memory.codes, memory.scales, len(chunk), memory.patch, lambda ids, chunk=chunk: np.array_equal(ids, chunk)
    )
    return replace(row, **changes)


def memorise(codec: Codec, chunks: list[np.ndarray], size: int) -> list[StoredMemory]:
    memories = [m for start in range(0, len(chunks), size) for m in codec.memorise(chunks[start : start + size])]
    return [stored(memory, chunk) for memory, chunk in zip(memories, chunks, strict=True)]


def assert_exact(codec: Codec, rows: list[StoredMemory], chunks: list[np.ndarray], size: int) -> None:
    found = [r for start in range(0, len(rows), size) for r in codec.recall(rows[start : start + size])]
    assert all(r.exact for r in found)
    assert all(np.array_equal(r.token_ids, chunk) for r, chunk in zip(found, chunks, strict=True))
