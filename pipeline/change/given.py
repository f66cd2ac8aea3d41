"""What a person gives to be remembered becomes documents: texts, records, files. One that cannot be refuses all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.unit_file import REMEMBERED
from pipeline.corpus.corpus import IGNORED, Span, corpus_files
from pipeline.corpus.documents import MADE, ColumnRoles, Document, Rejected, judge
from pipeline.corpus.metadata import metadata_fields
from pipeline.corpus.readers import read_span


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's own columns of a bank."""

    fields: tuple[pa.Field, ...]

    def typed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as the columns hold them. Raises Refusal for a name that is none, a value that does not fit."""
        kinds = {field.name: field.type for field in self.fields}
        for name in values:
            if name not in kinds:
                has = f"it has {', '.join(kinds)}" if kinds else "it has none"
                raise Refusal(f"the bank has no column of the user's own named {name!r}; {has}")
        return {name: _typed(name, value, kinds[name]) for name, value in values.items()}

    def parsed(self, pairs: Sequence[str]) -> dict[str, Any]:
        """KEY=VALUE as values of the columns' types."""
        split = [pair.partition("=") for pair in pairs]
        if odd := next((pair for pair, (_, sign, _) in zip(pairs, split, strict=True) if not sign), None):
            raise Refusal(f"--column {odd}: wanted KEY=VALUE")
        texts = {name: value for name, _, value in split}
        kinds = {field.name: field.type for field in self.fields if field.name in texts}
        self.typed(dict.fromkeys(texts))
        return {name: _parsed(name, text, kinds[name]) for name, text in texts.items()}


def documents_given(
    given: str | Iterable[str | Mapping[str, Any]],
    columns: Columns,
    values: Mapping[str, Any],
    *,
    doc_id: str | None = None,
) -> list[Document]:
    """Of one text, or of several texts and records.

    A record is a mapping with `text`, perhaps `doc_id`, and columns of its own, which go before `values`. A document
    without an id is named by its text's hash, as an encode job does. Raises Refusal for what is no document.
    """
    records = [given] if isinstance(given, str) else list(given)
    if doc_id is not None and len(records) != 1:
        raise Refusal(f"one id was given for {len(records)} documents: give each a doc_id of its own")
    shared = columns.typed(values)
    return _each_once(_judged(place, record, doc_id, columns, shared) for place, record in enumerate(records, start=1))


def documents_of_files(
    paths: Sequence[str],
    columns: Columns,
    values: Mapping[str, Any],
    *,
    text_column: str = "text",
    id_column: str | None = None,
) -> list[Document]:
    """Of files in any format of a corpus (docs/corpus.md), all in memory at once.

    A file's own values of the bank's columns go before `values`. Raises what `corpus_files` raises.
    """
    shared = columns.typed(values)
    files = [file for file in corpus_files(paths, text_column) if file.format != IGNORED]
    metadata_fields(files, ColumnRoles(text_column, id_column))
    roles = ColumnRoles(text_column, id_column, tuple(f.name for f in columns.fields), columns.fields)
    items = (located.item for file in files for located in read_span(Span(file), roles))
    return _each_once(_with_shared(_document(item), shared) for item in items)


def _judged(
    place: int, record: str | Mapping[str, Any], doc_id: str | None, columns: Columns, shared: dict[str, Any]
) -> Document:
    own = {"text": record} if isinstance(record, str) else dict(record)
    if "text" not in own:
        raise Refusal(f"document {place} has no text: wanted a text, or a mapping with `text` and perhaps `doc_id`")
    text, raw_id = own.pop("text"), own.pop(schema.DOC_ID, MADE if doc_id is None else doc_id)
    found = judge(text, raw_id, shared | columns.typed(own), REMEMBERED)
    return _document(found, f"document {place}")


def _document(item: Document | Rejected, name: str = "") -> Document:
    if isinstance(item, Rejected):
        raise Refusal(f"{name or item.source}: {item.reason}. Nothing was remembered")
    return item


def _with_shared(document: Document, shared: dict[str, Any]) -> Document:
    own = {name: value for name, value in document.metadata.items() if value is not None}
    return Document(document.doc_id, document.text, document.doc_hash, document.source, shared | own)


def _each_once(documents: Iterator[Document]) -> list[Document]:
    """The same text twice is one document. Raises Refusal for two texts under one id."""
    found: dict[str, Document] = {}
    for document in documents:
        first = found.setdefault(document.doc_id, document)
        if first.doc_hash != document.doc_hash:
            raise Refusal(f"the id {document.doc_id!r} is given twice, with two texts: give one of them another id")
    return list(found.values())


def _typed(name: str, value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    try:
        held = pa.scalar(value, type=kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, OverflowError):
        raise Refusal(f"the column {name} is {kind}, and {value!r} is none") from None
    if isinstance(value, float) and isinstance(held, int):  # pyarrow cuts 1.5 to 1
        raise Refusal(f"the column {name} is {kind}, and {value!r} is none")
    return held


def _parsed(name: str, text: str, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(text).cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise Refusal(f"the column {name} is {kind}, and {text!r} is none") from None
