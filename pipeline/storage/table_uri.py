"""A bank's place as delta-rs is to be told it, so that the log is read and written where the files are.

delta-rs 1.6 takes a place as a URI and reads `%20` in it as a space, in one of its two halves even where the `%` is
quoted: a bank named `x%20y` would write its own log and read its neighbour's. A backslash becomes a slash. On a disk
`[`, `]`, `^` and `|` end it with a panic at the first compaction. Such a place is refused before anything is written;
on an object store the rest is quoted. What is refused here cannot be opened by other readers that use delta-rs either.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from model.refusal import Refusal
from pipeline.storage import storage

_EVERYWHERE = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f\x7f]")
_ON_A_DISK = re.compile(rf"{_EVERYWHERE.pattern}|[\[\]^|]")


def table_uri(uri: str) -> str:
    """`uri` (absolute, or an object store's) for delta-rs. ValueError for a place that it would take for another.

    On a disk the folder that links lead to is looked at: delta-rs follows them.
    """
    if not storage.is_remote(uri):
        return _checked(uri, os.path.realpath(uri), _ON_A_DISK)
    if "?" in uri:
        raise Refusal(
            f"{uri}: a memory bank's address takes no `?`: name the store by AWS_ENDPOINT_URL, or choose another key"
        )
    scheme, _, place = uri.partition("://")
    bucket, slash, key = place.partition("/")
    return f"{scheme}://{bucket}{slash}" + quote(_checked(uri, key, _EVERYWHERE))


def _checked(uri: str, place: str, misread: re.Pattern) -> str:
    found = misread.search(place)
    if found is None:
        return place
    raise Refusal(
        f"{uri} cannot be a memory bank's place: its path holds {found[0]!r}, which Delta Lake's library reads as "
        "something else. Rename that folder, or choose another one"
    )
