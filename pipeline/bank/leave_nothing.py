"""Whatever is refused leaves nothing: what was put into a folder for a bank that did not come to be is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.bank.transaction_log import LOG
from pipeline.storage.folder import Folder


@contextmanager
def leaving_nothing(folder: Folder, under: str) -> Iterator[None]:
    """Where the block raises and no bank lies in the folder, it holds nothing under `under` that it did not hold
    before, and no folder that was made for it stays. What a bank holds, and what others put there, is left alone."""
    if folder.names(LOG):
        yield
        return
    held, absent = set(folder.names(under, recursive=True)), _absent(folder)
    try:
        yield
    except BaseException:
        if not folder.names(LOG):
            for name in set(folder.names(under, recursive=True)) - held:
                folder.remove(name)
            if folder.is_local:
                _remove_empty(f"{folder.uri}/{under}", absent | {f"{folder.uri}/{under.partition('/')[0]}"})
        raise


def _absent(folder: Folder) -> set[str]:
    """The folder and those above it that do not exist yet, on a local disk."""
    found, path = set(), folder.uri
    while folder.is_local and path and not os.path.lexists(path):
        found.add(path)
        path = os.path.dirname(path)
    return found


def _remove_empty(path: str, absent: set[str]) -> None:
    """`path`, and then those of `absent` above it: each as long as it is empty."""
    for inner, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            os.rmdir(inner)
    while (path := os.path.dirname(path)) in absent:
        with suppress(OSError):
            os.rmdir(path)
