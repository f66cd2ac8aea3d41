"""CORPUS arguments become an ordered stream of input files; nothing is read yet.

An argument is a file, a folder, a glob (`*`, `?`, `[...]`, `**`), a folder written by `datasets.save_to_disk`, or a
dataset of the Hugging Face hub: `hf:NAME[@REVISION][:CONFIG[:SPLIT]]` (`hf:stanfordnlp/imdb::test` names a split of the
only config). Paths may be URIs. The order is the order of the arguments, and by full path inside each.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from model.refusal import Missing, Refusal
from pipeline import storage
from pipeline.documents import Document, Rejected, one_line

PARQUET, JSONL, TEXT, ARROW, IGNORED = "parquet", "jsonl", "text", "arrow", "ignored"

_FORMATS = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".jsonl": JSONL,
    ".jsonlines": JSONL,
    ".json-lines": JSONL,
    ".ndjson": JSONL,
    ".txt": TEXT,
    ".md": TEXT,
    ".arrow": ARROW,
}
_COMPRESSED = (".gz", ".zst")
READABLE = ".parquet, .jsonl, .txt, .md (the last three also .gz or .zst), .arrow"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the corpus, as it stood when it was listed."""

    uri: str
    name: str  # the path a person knows it by: from the argument's own base name on, `notes/2024/a.txt`
    format: str  # PARQUET, JSONL, TEXT, ARROW, or IGNORED for a file in a folder that is none of them
    compression: str  # "", ".gz" or ".zst"
    size: int
    mtime_ns: int
    spool: str = ""  # where its bytes lie in frames that can be read from any byte on, if they do: pipeline/spool.py


@dataclass(frozen=True, slots=True)
class Span:
    """A run of records of one file. Lines and bytes of a compressed file are counted in what it unpacks to."""

    file: InputFile
    first: int = 0  # 0-based number of the first row or line
    count: int | None = None  # rows or lines (blank ones too); None: to the end
    offset: int = 0  # first byte, JSONL only
    length: int | None = None  # bytes, JSONL only; None: to the end


class Located(NamedTuple):
    """A record and where the next one begins."""

    item: Document | Rejected
    next_record: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """The input files of some CORPUS arguments, listed anew each time it is iterated."""

    arguments: tuple[str, ...]

    def __iter__(self) -> Iterator[InputFile]:
        return corpus_files(self.arguments)


def corpus_files(arguments: Sequence[str]) -> Iterator[InputFile]:
    """Every file of the corpus in order. Memory does not grow with a folder's files.

    Raises FileNotFoundError (no such path, a glob that matches nothing, a folder without a readable file), ValueError
    (an extension nobody reads, two arguments of one name or one inside the other, a dataset that cannot be loaded).
    """
    if not arguments:
        raise Refusal("no corpus was given: name files, folders, globs or hf:NAME")
    roots = _Roots()
    for argument in arguments:
        yield from _at_least_one(argument, _files_of(argument, roots))


def _files_of(argument: str, roots: _Roots) -> Iterator[InputFile]:
    if argument.startswith("hf:"):
        yield from _hub_files(argument, roots)
        return
    uri = storage.absolute(argument)
    if storage.exists(uri):
        entry = storage.stat(uri)
        if not entry.is_folder and format_of(entry.name)[0] == IGNORED:
            raise Refusal(f"{argument} is no format that can be read: wanted {READABLE}")
        yield from _below(entry, argument, entry.name, roots)
    elif _is_glob(argument):
        for entry, name in _glob(uri):
            yield from _below(entry, argument, name, roots)
    else:
        raise Missing(f"{argument} does not exist: give a file, a folder, a glob or hf:NAME")


def format_of(name: str) -> tuple[str, str]:
    """(format, compression) by a file name's ending."""
    stem, compression = os.path.splitext(name.lower())
    if compression not in _COMPRESSED:
        stem, compression = name.lower(), ""
    kind = _FORMATS.get(os.path.splitext(stem)[1], IGNORED)
    if name.startswith(".") or (compression and kind not in (JSONL, TEXT)):
        return IGNORED, ""
    return kind, compression


class _Roots:
    """What the arguments begin at, so that no file is read twice and no two have one name."""

    def __init__(self):
        self.by_uri: dict[str, str] = {}
        self.by_name: dict[str, str] = {}
        self.above: dict[str, str] = {}  # every folder around a root

    def add(self, uri: str, name: str, argument: str) -> None:
        around = list(self._around(uri))
        other = next((self.by_uri[folder] for folder in around if folder in self.by_uri), self.above.get(uri))
        if other is not None:
            raise Refusal(f"{argument} and {other} overlap: files would be read twice. Leave one out")
        other = self.by_name.get(name)
        if other is not None:
            raise Refusal(
                f"{argument} and {other} have the same name, {name}, so their documents could not be told apart: "
                "give the folder that holds both, or a quoted glob, or rename one"
            )
        self.by_uri[uri] = self.by_name[name] = argument
        self.above.update(dict.fromkeys(around[1:], argument))

    @staticmethod
    def _around(uri: str) -> Iterator[str]:
        while uri:
            yield uri
            uri = storage.parent(uri)


def _at_least_one(argument: str, files: Iterator[InputFile]) -> Iterator[InputFile]:
    readable = ignored = 0
    for file in files:
        readable, ignored = readable + (file.format != IGNORED), ignored + (file.format == IGNORED)
        yield file
    if not readable:
        found = f"{ignored} files of other formats" if ignored else "no file"
        raise Missing(f"{argument} holds nothing that can be read: found {found}, wanted {READABLE}")


def _below(entry: storage.Entry, argument: str, name: str, roots: _Roots) -> Iterator[InputFile]:
    roots.add(entry.uri, name, argument)
    if not entry.is_folder:
        yield _input_file(entry, name)
        return
    for found in storage.listing(entry.uri, enter=lambda folder: not folder.name.startswith((".", "_"))):
        yield _input_file(found, name + "/" + _relative(entry.uri, found.uri))


def _input_file(entry: storage.Entry, name: str) -> InputFile:
    _check_encodable(entry.uri)
    kind, compression = format_of(entry.name)
    if kind == ARROW:
        saved = _saved_files(storage.parent(entry.uri))
        kind = ARROW if saved is None or entry.name in saved else IGNORED
    return InputFile(entry.uri, name, kind, compression, entry.size, entry.mtime_ns)


@lru_cache(maxsize=4)
def _saved_files(folder: str) -> frozenset[str] | None:
    """The data files of a folder written by `save_to_disk`: `map` leaves caches of the same extension beside them."""
    state = storage.join(folder, "state.json")
    if not storage.exists(state):
        return None
    try:
        return frozenset(file["filename"] for file in json.loads(storage.read_bytes(state))["_data_files"])
    except (ValueError, KeyError, TypeError):
        raise Refusal(f"{state} is not what datasets.save_to_disk writes: save the dataset again") from None


def _relative(root: str, uri: str) -> str:
    path, base = storage.resolve(uri)[1], storage.resolve(root)[1]
    return path[len(base) :].lstrip("/")


def _check_encodable(uri: str) -> None:
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise Refusal(f"the file name {os.fsencode(uri)!r} is not UTF-8: rename the file") from None


def _is_glob(argument: str) -> bool:
    return any(
        sign in argument.partition("?")[0] if storage.is_remote(argument) else sign in argument for sign in "*?["
    )


def _glob(uri: str) -> Iterator[tuple[storage.Entry, str]]:
    """What matches, with the name from the first component that holds a wildcard on, as a shell's expansion has it."""
    path, _, query = uri.partition("?") if storage.is_remote(uri) else (uri, "", "")
    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if _is_glob(part))
    base = ("/".join(parts[:first]) or "/") + (f"?{query}" if query else "")
    if storage.exists(base):
        yield from _matches(base, parts[first:], "", enter_matches="**" not in parts)


def _matches(folder: str, parts: list[str], name: str, enter_matches: bool) -> Iterator[tuple[storage.Entry, str]]:
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest or ["*"], name, enter_matches)
    for entry in storage.entries(folder):
        here = f"{name}/{entry.name}" if name else entry.name
        if part == "**":
            if entry.is_folder and not entry.name.startswith((".", "_")):
                yield from _matches(entry.uri, parts, here, enter_matches)
        elif fnmatch.fnmatchcase(entry.name, part) and not (entry.name.startswith(".") and part[0] in "*?["):
            if rest and entry.is_folder:
                yield from _matches(entry.uri, rest, here, enter_matches)
            elif not rest and (enter_matches or not entry.is_folder):
                yield entry, here


def _hub_files(argument: str, roots: _Roots) -> Iterator[InputFile]:
    """The Arrow files into which `datasets` downloads; workers on other machines need the same HF_HOME."""
    place, _, config = argument.removeprefix("hf:").partition(":")
    name, _, revision = place.partition("@")
    config, _, split = config.partition(":")
    for split_name, dataset in _load_dataset(argument, name, config or None, revision or None, split).items():
        for cached in dataset.cache_files:
            entry = storage.stat(cached["filename"])
            label = f"{name}/{split_name}/{entry.name}"
            roots.add(entry.uri, label, argument)
            yield InputFile(entry.uri, label, ARROW, "", entry.size, entry.mtime_ns)


@lru_cache(maxsize=4)
def _load_dataset(argument: str, name: str, config: str | None, revision: str | None, split: str) -> dict:
    from datasets import load_dataset

    try:
        splits = load_dataset(name, config, revision=revision)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        raise Refusal(f"{argument} could not be loaded: {one_line(error)}") from error
    if split and split not in splits:
        raise Refusal(f"{argument}: there is no split {split!r}; found {', '.join(splits)}. Slices are not taken")
    return {split: splits[split]} if split else dict(splits)
