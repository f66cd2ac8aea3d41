"""CORPUS arguments become an ordered stream of input files; nothing is read yet.

An argument is a file, a folder, a glob (`*`, `?`, `[...]`, `**`), a folder written by `datasets.save_to_disk`, or a
dataset of the Hugging Face hub: `hf:NAME[@REVISION][:CONFIG[:SPLIT]]` (`hf:stanfordnlp/imdb::test` names a split of the
only config). Paths may be URIs. The order is the order of the arguments, and by full path inside each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from model.refusal import Missing, Refusal
from pipeline.corpus.documents import Document, Rejected
from pipeline.corpus.globs import is_glob, matching
from pipeline.corpus.hub import load_splits
from pipeline.corpus.misnamed import LOOKED_AT, holds_records
from pipeline.corpus.unpack import TORN, open_unpacked
from pipeline.storage import storage

PARQUET, JSONL, TEXT, ARROW, IGNORED = "parquet", "jsonl", "text", "arrow", "ignored"
LINK = "link"  # one whose target is gone

_FORMATS = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".jsonl": JSONL,
    ".jsonlines": JSONL,
    ".json-lines": JSONL,
    ".ndjson": JSONL,
    ".json": JSONL,  # in a folder only where it holds lines (_holds_lines)
    ".txt": TEXT,
    ".md": TEXT,
    ".arrow": ARROW,
}
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
_OF_DATASETS = ("dataset_info.json", "dataset_dict.json", "state.json")  # stand beside what save_to_disk writes
READABLE = ".parquet, .jsonl, .json of lines, .txt, .md (the last four also .gz, .zst, .bz2 or .xz), .arrow"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the corpus, as it stood when it was listed."""

    uri: str
    name: str  # the path a person knows it by: from the argument's own base name on, `notes/2024/a.txt`
    format: str  # PARQUET, JSONL, TEXT, ARROW; in a folder also LINK, and IGNORED for what is none of them
    compression: str  # "", ".gz", ".zst", ".bz2" or ".xz"
    size: int
    mtime_ns: int
    ctime_ns: int = 0  # 0 on an object store
    spool: str = (
        ""  # where its bytes lie in frames that can be read from any byte on, if they do: pipeline/corpus/spool.py
    )

    @property
    def ending(self) -> str:
        """By what an ignored file or folder is counted: `.csv`, `hidden`, `folder`, `no ending`."""
        base = self.name.rstrip("/").rpartition("/")[2]
        if self.name.endswith("/"):
            return "folder"
        return "hidden" if base.startswith(".") else os.path.splitext(base.lower())[1] or "no ending"


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
    text: str = "text"  # the text column

    def __iter__(self) -> Iterator[InputFile]:
        return corpus_files(self.arguments, self.text)


def corpus_files(arguments: Sequence[str], text: str = "text") -> Iterator[InputFile]:
    """Every file of the corpus in order. Memory does not grow with a folder's files.

    A .json file found in a folder is read where its first line is an object with the column `text`.

    Raises FileNotFoundError (no such path, a glob that matches nothing, a folder without a readable file), ValueError
    (an extension nobody reads, two arguments of one name or one inside the other, a dataset that cannot be loaded).
    """
    if not arguments:
        raise Refusal("no corpus was given: name files, folders, globs or hf:NAME")
    roots = _Roots(text)
    for argument in arguments:
        yield from _at_least_one(argument, _files_of(argument, roots))


def _files_of(argument: str, roots: _Roots) -> Iterator[InputFile]:
    if argument.startswith("hf:"):
        yield from _hub_files(argument, roots)
        return
    uri = storage.absolute(argument)
    if storage.exists(uri):
        entry = storage.stat(uri)
        if entry.leads_to is not None:
            raise Missing(f"{argument} is a link, and {entry.leads_to}, where it leads to, is gone")
        if not entry.is_folder and format_of(entry.name)[0] == IGNORED:
            raise Refusal(f"{argument} is no format that can be read: wanted {READABLE}")
        yield from _below(entry, argument, entry.name, roots)
    elif is_glob(argument):
        for entry, name in matching(uri):
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

    def __init__(self, text: str):
        self.text = text  # the text column
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
    readable = ignored = links = 0
    for file in files:
        readable, ignored = readable + (file.format not in (IGNORED, LINK)), ignored + (file.format == IGNORED)
        links += file.format == LINK
        yield file
    if not readable:
        found = f"{ignored} files of other formats" if ignored else "no file"
        found += f" and {links} links whose targets are gone" if links else ""
        raise Missing(f"{argument} holds nothing that can be read: found {found}, wanted {READABLE}")


def _below(entry: storage.Entry, argument: str, name: str, roots: _Roots) -> Iterator[InputFile]:
    roots.add(entry.uri, name, argument)
    if not entry.is_folder:
        yield _input_file(entry, name, None if entry.uri == storage.absolute(argument) else roots.text)
        return
    passed: list[storage.Entry] = []
    for found in storage.listing(entry.uri, enter=lambda folder: _is_entered(folder, passed)):
        yield _input_file(found, name + "/" + _relative(entry.uri, found.uri), roots.text)
    for folder in passed:
        yield InputFile(folder.uri, f"{name}/{_relative(entry.uri, folder.uri)}/", IGNORED, "", 0, 0)


def _is_entered(folder: storage.Entry, passed: list[storage.Entry]) -> bool:
    """Folders that writers keep their own things in are passed over, and remembered; so are memory banks."""
    if folder.name.startswith((".", "_")) or _is_bank(folder):
        passed.append(folder)
        return False
    return True


def _is_bank(folder: storage.Entry) -> bool:
    """Looked for on a disk only: on an object store it would cost requests for every folder."""
    marks = ("_delta_log", "_codec")
    return not storage.is_remote(folder.uri) and all(storage.exists(storage.join(folder.uri, mark)) for mark in marks)


def _input_file(entry: storage.Entry, name: str, text: str | None) -> InputFile:
    """`text`: the column by which a .json file of records is known from others; None for a file that was named."""
    _check_encodable(entry.uri)
    kind, compression = format_of(entry.name)
    if entry.leads_to is not None:
        lost = kind != IGNORED or not (entry.name.startswith(".") or os.path.splitext(entry.name)[1])
        kind = LINK if lost else IGNORED
    elif kind == ARROW:
        saved = _saved_files(storage.parent(entry.uri))
        kind = ARROW if saved is None or entry.name in saved else IGNORED
    file = InputFile(entry.uri, name, kind, compression, entry.size, entry.mtime_ns, entry.ctime_ns)
    read = text is None or not _is_json(entry.name) or _holds_lines(file, text)
    return file if read else replace(file, format=IGNORED)


def _is_json(name: str) -> bool:
    stem, compression = os.path.splitext(name.lower())
    return (stem if compression in _COMPRESSED else name.lower()).endswith(".json")


def _holds_lines(file: InputFile, text: str) -> bool:
    if file.format != JSONL or file.name.rpartition("/")[2] in _OF_DATASETS:
        return file.format == LINK
    try:
        with open_unpacked(file) as stream:
            return holds_records(stream.read(LOOKED_AT), text)
    except TORN:
        return True  # to be rejected by name


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


def _hub_files(argument: str, roots: _Roots) -> Iterator[InputFile]:
    """The Arrow files into which `datasets` downloads; workers on other machines need the same HF_HOME."""
    place, _, config = argument.removeprefix("hf:").partition(":")
    name, _, revision = place.partition("@")
    config, _, split = config.partition(":")
    for split_name, dataset in load_splits(argument, name, config or None, revision or None, split).items():
        for cached in dataset.cache_files:
            entry = storage.stat(cached["filename"])
            label = f"{name}/{split_name}/{entry.name}"
            roots.add(entry.uri, label, argument)
            yield InputFile(entry.uri, label, ARROW, "", entry.size, entry.mtime_ns)
