"""A packed JSONL file is unpacked once, and packed anew so that a work unit can be read without what is before it.

A .gz, and a .zst of one frame, can only be unpacked from the start: a unit in the middle would cost half of the file.
The spool holds the same bytes in frames (frames.py). It lies beside the plan, is about as large as the packed
file, and goes when the job is complete. Whoever misses it reads the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import BinaryIO

from pipeline.corpus.corpus import JSONL, InputFile
from pipeline.corpus.frames import write_frames
from pipeline.corpus.unpack import TORN, open_unpacked
from pipeline.storage import storage
from pipeline.storage.folder import Folder

FRAME_BYTES = 1 << 20  # unpacked: at most so much is read in vain at either end of a unit
WORTH_BYTES = 1 << 20  # packed: a smaller file is unpacked from its start in milliseconds
SUFFIX = ".spool.zst"


def spooled(file: InputFile, folder: str) -> InputFile:
    """The file, with a spool in `folder` where it needs one; made by one pass over it if it is not there yet.

    OSError where the file cannot be read or the spool not be written.
    """
    if not file.compression or file.format != JSONL or file.size < WORTH_BYTES:
        return file
    uri = storage.join(folder, _name(file))
    if not storage.exists(uri):
        with open_unpacked(file) as stream, storage.whole_file(uri) as out:
            write_frames(_pieces(stream), out)
    return replace(file, spool=uri)


def remove_spools(folder: Folder, under: str) -> None:
    for name in folder.names(under):
        if name.endswith(SUFFIX):
            folder.remove(name)


def _name(file: InputFile) -> str:
    known = repr((file.uri, file.size, file.mtime_ns, file.ctime_ns))
    return blake2b(known.encode(), digest_size=16).hexdigest() + SUFFIX


def _pieces(stream: BinaryIO) -> Iterator[tuple[bytes, str | None]]:
    """FRAME_BYTES each, the last one fewer. Beside each: why the file ends after it, if it is torn there."""
    piece, torn = b"", None
    while torn is None:
        piece, torn = _piece(stream)
        yield piece, torn
        if not piece:
            return


def _piece(stream: BinaryIO) -> tuple[bytes, str | None]:
    read = bytearray()
    try:
        while len(read) < FRAME_BYTES and (more := stream.read1(FRAME_BYTES - len(read))):
            read += more
    except TORN as error:
        return bytes(read), str(error)
    return bytes(read), None
