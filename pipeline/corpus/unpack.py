"""The bytes of an input file, unpacked if it is packed, with a file that is cut short told from a whole one.

They come from the file's spool where it has one (spool.py), else a packed file is unpacked from its start.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from pipeline.corpus.frames import open_frames
from pipeline.storage import storage

if TYPE_CHECKING:
    from pipeline.corpus.corpus import InputFile

TORN = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, lzma.LZMAError)
_FRAMES = {
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}


@contextmanager
def open_unpacked(file: InputFile) -> Iterator[BinaryIO]:
    """A buffered stream that seeks forward. Reading raises one of TORN where a packed file is cut short or damaged."""
    if (spool := _spool(file)) is not None:
        with spool:
            yield spool
        return
    with storage.open_input(file.uri) as packed:
        if file.compression == ".gz":
            with gzip.GzipFile(fileobj=packed) as stream:
                yield stream
        elif file.compression:
            with io.BufferedReader(_Unpacked(packed, _FRAMES[file.compression]), 1 << 20) as stream:
                yield stream
        else:
            yield packed


def _spool(file: InputFile) -> BinaryIO | None:
    with suppress(FileNotFoundError):  # it went with a complete job, or the bank was moved
        return open_frames(file.spool) if file.spool else None


class _Unpacked(io.RawIOBase):
    """Unpacked bytes of a stream of any number of frames; EOFError where the last one is cut short.

    `zstandard`'s own stream reader ends a torn file as if it were whole. A window of 2 GiB (`zstd --long=31`) is taken.
    """

    def __init__(self, stream: BinaryIO, new_frame: Callable):
        self._stream, self._new_frame = stream, new_frame
        self._frame = None
        self._out = memoryview(b"")
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Forward only, by unpacking."""
        if whence != io.SEEK_SET or offset < self._position:
            raise io.UnsupportedOperation("a packed stream goes forward only")
        while self._position < offset and self.readinto(bytearray(min(1 << 20, offset - self._position))):
            pass
        return self._position

    def readinto(self, buffer) -> int:
        while not self._out:
            packed = self._stream.read(1 << 16)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the packed data ends early")
                return 0
            self._out = memoryview(self._unpack(packed))
        size = min(len(buffer), len(self._out))
        buffer[:size] = self._out[:size]
        self._out = self._out[size:]
        self._position += size
        return size

    def _unpack(self, packed: bytes) -> bytes:
        pieces = []
        while packed:
            if self._frame is None:
                self._frame = self._new_frame()
            try:
                pieces.append(self._frame.decompress(packed))
            except OSError as error:  # what bz2 says of damaged data
                raise EOFError(str(error)) from error
            packed = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        return b"".join(pieces)

    def close(self) -> None:
        self._stream.close()
        super().close()
