"""Bytes in zstd frames with an index: packed, and yet readable from any byte on.

    frame, frame, ..., skippable frame: {"frames": [[packed, unpacked], ...], "torn": reason or null}, its length

It is a .zst file that any reader takes. https://github.com/facebook/zstd/blob/dev/doc/zstd_compression_format.md
"""

from __future__ import annotations

import bisect
import io
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import BinaryIO

import zstandard

from pipeline.storage import storage

LEVEL = 1
MAGIC, HEADER, LENGTH = 0x184D2A50, struct.Struct("<II"), struct.Struct("<I")  # of a skippable frame


def write_frames(pieces: Iterable[tuple[bytes, str | None]], out: BinaryIO) -> None:
    """A frame for each piece. Beside the last one: why its bytes end there, if they were torn from a longer file."""
    compressor, frames, torn = zstandard.ZstdCompressor(level=LEVEL), [], None
    for piece, reason in pieces:
        torn = torn or reason
        if piece:
            frame = compressor.compress(piece)
            out.write(frame)
            frames.append((len(frame), len(piece)))
    index = json.dumps({"frames": frames, "torn": torn}).encode()
    out.write(HEADER.pack(MAGIC, len(index) + LENGTH.size) + index + LENGTH.pack(len(index)))


def open_frames(uri: str) -> BinaryIO:
    """A buffered, seekable stream of the unpacked bytes. EOFError at the end of torn ones. FileNotFoundError."""
    return io.BufferedReader(_Frames(storage.open_input(uri), _index(uri)), 1 << 16)


@dataclass(frozen=True, slots=True)
class _Index:
    """Where frames begin, packed and unpacked; one place more than there are frames."""

    packed: tuple[int, ...]
    unpacked: tuple[int, ...]
    torn: str | None


@lru_cache(maxsize=16)
def _index(uri: str) -> _Index:
    end = storage.stat(uri).size - LENGTH.size
    with storage.open_input(uri) as stream:
        stream.seek(end)
        (length,) = LENGTH.unpack(stream.read(LENGTH.size))
        stream.seek(end - length)
        found = json.loads(stream.read(length))
    packed, unpacked = zip(*found["frames"], strict=True) if found["frames"] else ((), ())
    return _Index(tuple(accumulate(packed, initial=0)), tuple(accumulate(unpacked, initial=0)), found["torn"])


class _Frames(io.RawIOBase):
    """One frame in memory."""

    def __init__(self, stream: BinaryIO, index: _Index):
        self._stream, self._index = stream, index
        self._position, self._frame, self._bytes = 0, -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._index.unpacked[-1]}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer) -> int:
        frame = bisect.bisect_right(self._index.unpacked, self._position) - 1
        if frame == len(self._index.packed) - 1:
            if self._index.torn is not None:
                raise EOFError(self._index.torn)
            return 0
        if frame != self._frame:
            self._frame, self._bytes = frame, self._unpacked(frame)
        start = self._position - self._index.unpacked[frame]
        size = min(len(buffer), len(self._bytes) - start)
        buffer[:size] = self._bytes[start : start + size]
        self._position += size
        return size

    def _unpacked(self, frame: int) -> bytes:
        first, last = self._index.packed[frame : frame + 2]
        self._stream.seek(first)
        return zstandard.ZstdDecompressor().decompress(self._stream.read(last - first))

    def close(self) -> None:
        self._stream.close()
        super().close()
