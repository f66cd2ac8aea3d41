"""A document, a rejection, and what makes a record the one or the other.

Readers hand raw values to `judge`; nothing is dropped in silence: a record that cannot be a document becomes a
`Rejected` with the place a person finds it at, the reason, and what could be read of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from model.refusal import Refusal
from pipeline import schema
from pipeline.corpus.ids import id_fault, id_text

EXCERPT_CHARS = 200
READER, ENCODER = "reader", "encoder"
MADE = object()  # stands for the id of a record whose file has no id column


@dataclass(frozen=True, slots=True)
class ColumnRoles:
    """Which columns of a table or JSONL file mean what. `ValueError` for a choice no bank can hold."""

    text: str = "text"
    id: str | None = None  # None: a column `id` where a file has one, else ids are made; "": ids are always made
    metadata: tuple[str, ...] = ()  # the user's own columns, which the bank keeps
    metadata_fields: tuple[pa.Field, ...] = ()  # their Arrow fields, once `settled` has found them

    def __post_init__(self):
        folded = [name.lower() for name in self.metadata]
        for name in self.metadata:
            if name.lower() in schema.RESERVED:
                raise Refusal(f"column {name!r} cannot be metadata: a bank has a column of that name. Rename it first")
            if folded.count(name.lower()) > 1:  # a Delta table does not tell names apart by case
                raise Refusal(f"metadata column {name!r} is named twice. Name it once")


@dataclass(frozen=True, slots=True)
class Document:
    """One input text with an id."""

    doc_id: str
    text: str
    doc_hash: str  # 32 hex digits, of the text
    source: str  # `articles.jsonl:17` (lines count from 1), `part-0.parquet:1234` (rows count from 0), `notes/a.txt`
    metadata: dict[str, Any] = field(default_factory=dict)  # one value a metadata column, None where there is none
    edited_from: str | None = None  # hash of the text that its corpus has, where it stands for that one


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record, or what is left of a torn file, that cannot be a document."""

    source: str
    doc_id: str | None  # where it could be read
    reason: str  # one line
    excerpt: str  # at most 200 characters of what could be read
    by: str = READER  # who left it out: what a READER did is planned, what an ENCODER did may be tried again


@dataclass(slots=True)
class Again:
    """What is tried again of a unit: its documents that encoders left out."""

    number: int  # of the attempt, from 1
    doc_ids: set[str] = field(default_factory=set)


class Unfit:
    """A metadata value that does not fit its column; `reason` says how."""

    __slots__ = ("reason",)

    def __init__(self, reason: str):
        self.reason = reason


def document_hash(text: str) -> str:
    """BLAKE2b-128 of the UTF-8 text, 32 hex digits. UnicodeEncodeError for a lone surrogate."""
    return blake2b(text.encode(), digest_size=16).hexdigest()


def judge(text: Any, raw_id: Any, metadata: dict[str, Any], source: str) -> Document | Rejected:
    """One record's raw values as a document, or as a rejection with its reason.

    `raw_id` may be `MADE`: the id is then the text's own hash, the same on any machine and in any order.
    `bytes` stand for a text that is not UTF-8.
    """
    if text.__class__ is not str or not text or text.isspace():
        return reject(source, raw_id, _text_fault(text), text)
    try:
        doc_hash = document_hash(text)
    except UnicodeEncodeError as error:
        return reject(
            source, raw_id, f"text holds a lone surrogate at character {error.start}: not valid Unicode", text
        )
    doc_id = doc_hash if raw_id is MADE else id_text(raw_id)
    if doc_id is None:
        return reject(source, raw_id, id_fault(raw_id), text)
    for name, value in metadata.items():
        if value.__class__ is Unfit:
            return reject(source, doc_id, f"column {name!r}: {value.reason}", text)
    return Document(doc_id, text, doc_hash, source, metadata)


def reject(source: str, raw_id: Any, reason: str, found: Any, *, by: str = READER) -> Rejected:
    doc_id = None if raw_id is MADE else id_text(raw_id)
    return Rejected(source, doc_id, one_line(reason), excerpt(found), by)


def excerpt(found: Any) -> str:
    """The first characters of anything, always valid Unicode."""
    if isinstance(found, bytes):
        return found[:EXCERPT_CHARS].decode("utf-8", "backslashreplace")[:EXCERPT_CHARS]
    text = found[:EXCERPT_CHARS] if isinstance(found, str) else "" if found is None else repr(found)[:EXCERPT_CHARS]
    return text.encode("utf-8", "backslashreplace").decode()[:EXCERPT_CHARS]


def one_line(message: object) -> str:
    """A library's message as one short line."""
    return re.sub(r"\s+", " ", excerpt(str(message))).strip()


def _text_fault(text: Any) -> str:
    match text:
        case None:
            return "text is null or missing"
        case str():
            return "text is empty or only white space"
        case bytes():
            return "text is not valid UTF-8"
    return f"text is {kind_of(text)}: wanted a string"


def kind_of(value: Any) -> str:
    """A value's type in the words of JSON."""
    kinds = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object", str: "a string"}
    return kinds.get(type(value), "null" if value is None else f"of type {type(value).__name__}")
