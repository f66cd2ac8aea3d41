"""What an input is known by: any change of it gives another fingerprint, and so another plan.

A file is known by its path, its size and its times, the one a program may set (mtime) and the one that only the system
sets (ctime), so that a file corrected by as many bytes and given its old time back is read again. On an object store
there is the time it was put. A copy with new times is read once more, which costs a pass over the input; documents that
the bank holds with the same text are not encoded again.

By content, a file is known by its path and a hash of its bytes: for file systems whose times cannot be trusted, and for
inputs that are fetched anew for each run.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from pipeline.corpus.corpus import IGNORED, LINK, InputFile
from pipeline.corpus.documents import ColumnRoles
from pipeline.plan.packing import BYTES_A_CHUNK
from pipeline.storage import storage

FORMAT = 2  # a change to what a plan means gives every plan another name


def fingerprint(files: Iterable[InputFile], columns: ColumnRoles, unit_chunks: int, *, by_content: bool = False) -> str:
    """32 hex digits over the listing and over what decides how it is cut into units."""
    chosen = (FORMAT, BYTES_A_CHUNK, unit_chunks, columns.text, columns.id, columns.metadata)
    listing = blake2b(repr(chosen).encode(), digest_size=16)
    for file in files:
        state = _content(file) if by_content else (file.size, file.mtime_ns, file.ctime_ns)
        listing.update(repr((file.uri, file.name, file.format, state)).encode())
    return listing.hexdigest()


def _content(file: InputFile) -> str:
    if file.format in (IGNORED, LINK):
        return ""
    content = blake2b(digest_size=16)
    with storage.open_input(file.uri) as stream:
        while piece := stream.read(1 << 20):
            content.update(piece)
    return content.hexdigest()
