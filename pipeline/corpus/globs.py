"""Globs (`*`, `?`, `[...]`, `**`) over folders on a disk or an object store."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from pipeline.storage import storage


def is_glob(argument: str) -> bool:
    return any(
        sign in argument.partition("?")[0] if storage.is_remote(argument) else sign in argument for sign in "*?["
    )


def matching(uri: str) -> Iterator[tuple[storage.Entry, str]]:
    """What matches, with the name from the first component that holds a wildcard on, as a shell's expansion has it."""
    path, mark, query = uri.partition("?") if storage.is_remote(uri) else (uri, "", "")
    parts = path.split("/")
    first = _first_wildcard(parts, mark + query)
    base = ("/".join(parts[:first]) or "/") + mark + query
    if storage.exists(base):
        yield from _matches(base, parts[first:], "", enter_matches="**" not in parts)


def _first_wildcard(parts: list[str], query: str) -> int:
    """A folder that is there under the very name, `[drafts]`, is meant by it."""
    for i, part in enumerate(parts):
        if is_glob(part) and not storage.exists("/".join(parts[: i + 1]) + query):
            return i
    raise AssertionError("the whole argument is there, and so no glob")


def _matches(folder: str, parts: list[str], name: str, enter_matches: bool) -> Iterator[tuple[storage.Entry, str]]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest or ["*"], name, enter_matches)
    for entry in storage.entries(folder):
        here = f"{name}/{entry.name}" if name else entry.name
        if part == "**":
            if entry.is_folder and not entry.name.startswith((".", "_")):
                yield from _matches(entry.uri, parts, here, enter_matches)
        elif entry.name == part or _fits(entry.name, part):
            if rest and entry.is_folder:
                yield from _matches(entry.uri, rest, here, enter_matches)
            elif not rest and (enter_matches or not entry.is_folder):
                yield entry, here


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and not (name.startswith(".") and pattern[0] in "*?[")
