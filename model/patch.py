"""The patch: the few (position, token) pairs where greedy decoding would err. With it recall is exact.

Bytes: one kind byte, then the forced positions and their tokens, or, where more than half of the positions would be
forced, the raw token ids of the whole chunk. Positions are a list or one bit for each position of a chunk, whichever is
shorter. A chunk whose tokenizer cannot give the text back has the kind byte alone: its text stands in the row. Listed
positions take 1 byte up to 256 tokens a chunk, tokens 2 bytes up to a vocabulary of 65,536, little endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FORCED, RAW, TEXT = 0, 1, 2
MARKED = 3  # in bytes only: FORCED, its positions as bits
NOTHING = bytes([FORCED])  # the patch of a chunk that its latents alone decide
RAW_SHARE = 0.5  # past this share of forced positions a patch would be larger and slower than the ids themselves


@dataclass(frozen=True, slots=True)
class Patch:
    """What recall needs besides the latents. `kind`: FORCED positions, RAW ids of all positions, or TEXT in the row."""

    kind: int
    positions: np.ndarray  # int64 [N]; empty unless FORCED
    tokens: np.ndarray  # int64 [N]; all L ids if RAW

    def carried(self, num_tokens: int) -> float:
        """Share of the positions that the latents alone decide: 1 for an empty patch, 0 for raw ids and kept text."""
        return 1.0 - len(self.positions) / num_tokens if self.kind == FORCED and num_tokens else 0.0

    def forced(self, num_tokens: int) -> np.ndarray:
        """int64 [L]: the token to force at each position, -1 where decoding is free. ValueError if L does not fit."""
        if len(self.tokens) != num_tokens if self.kind == RAW else (self.positions >= num_tokens).any():
            raise ValueError(f"a patch is damaged: it does not fit a chunk of {num_tokens} tokens")
        forced_L = np.full(num_tokens, -1, dtype=np.int64)
        if self.kind == FORCED:
            forced_L[self.positions] = self.tokens
        elif self.kind == RAW:
            forced_L[:] = self.tokens
        return forced_L


def text_patch() -> Patch:
    return Patch(TEXT, np.empty(0, np.int64), np.empty(0, np.int64))


def make_patch(token_ids: Sequence[int], must_force: np.ndarray, *, raw_share: float = RAW_SHARE) -> Patch:
    """Patch for L tokens of which the boolean mask [L] says which must be forced."""
    ids = np.asarray(token_ids, dtype=np.int64)
    positions = np.flatnonzero(must_force)
    if len(positions) > raw_share * len(ids):
        return Patch(RAW, np.empty(0, np.int64), ids)
    return Patch(FORCED, positions, ids[positions])


@dataclass(frozen=True, slots=True)
class PatchFormat:
    """Byte widths, fixed by the codec."""

    chunk_tokens: int
    vocab_size: int

    @property
    def _position(self) -> int:
        return 1 if self.chunk_tokens <= 256 else 2

    @property
    def _token(self) -> int:
        return 2 if self.vocab_size <= 65536 else 3

    @property
    def _bits(self) -> int:
        return -(-self.chunk_tokens // 8)

    def pack(self, patch: Patch) -> bytes:
        if patch.kind == FORCED and len(patch.positions) * self._position > self._bits:
            marked = np.zeros(self.chunk_tokens, dtype=np.uint8)
            marked[patch.positions] = 1
            bits = np.packbits(marked, bitorder="little").tobytes()
            return bytes([MARKED]) + bits + _pack(patch.tokens, self._token)
        return bytes([patch.kind]) + _pack(patch.positions, self._position) + _pack(patch.tokens, self._token)

    def keeps_text(self, data: bytes) -> bool:
        """Whether this is the patch of a chunk whose text stands in its row."""
        return data[:1] == bytes([TEXT])

    def unpack(self, data: bytes) -> Patch:
        """Raises ValueError where the bytes are no patch of this codec."""
        kind, body = (data[0], data[1:]) if data else (-1, b"")
        entry = self._position + self._token
        if kind == FORCED and len(body) % entry == 0:
            split = len(body) // entry * self._position
            return Patch(FORCED, _unpack(body[:split], self._position), _unpack(body[split:], self._token))
        if kind == MARKED and len(body) >= self._bits:
            marked = np.unpackbits(np.frombuffer(body[: self._bits], dtype=np.uint8), bitorder="little")
            positions, tokens = np.flatnonzero(marked), body[self._bits :]
            if len(tokens) == len(positions) * self._token:
                return Patch(FORCED, positions, _unpack(tokens, self._token))
        if kind == RAW and len(body) % self._token == 0:
            return Patch(RAW, np.empty(0, np.int64), _unpack(body, self._token))
        if kind == TEXT and not body:
            return text_patch()
        raise ValueError(f"a patch of {len(data)} bytes that starts with {data[:1].hex() or 'nothing'} is damaged")


def _pack(values: np.ndarray, width: int) -> bytes:
    return np.ascontiguousarray(values, dtype="<u4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


def _unpack(data: bytes, width: int) -> np.ndarray:
    columns = np.frombuffer(data, dtype=np.uint8).reshape(-1, width).astype(np.int64)
    return (columns << (8 * np.arange(width))).sum(axis=1)
