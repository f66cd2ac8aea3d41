"""The Arrow types of the metadata columns, found before anything is read in earnest; mistakes about columns end here.

Tables say their types. JSONL does not: its first lines are looked at, and a later value that does not fit rejects its
record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from model.refusal import Refusal
from pipeline.corpus.corpus import IGNORED, JSONL, LINK, TEXT, InputFile
from pipeline.corpus.documents import ColumnRoles, kind_of, one_line
from pipeline.corpus.lines import objects, unusable_ids
from pipeline.corpus.partitions import partitions
from pipeline.corpus.tables import id_column_fault, table_schema

SAMPLE_LINES = 1000  # of each JSONL file, to find the metadata columns and their types
NAME_LINES = 20  # of each JSONL file where only the names matter


def settled(files: Iterable[InputFile], columns: ColumnRoles) -> ColumnRoles:
    """The columns with the Arrow field of each metadata column; refuses what no file holds. See `metadata_fields`."""
    return replace(columns, metadata_fields=metadata_fields(files, columns))


def metadata_fields(files: Iterable[InputFile], columns: ColumnRoles) -> tuple[pa.Field, ...]:
    """The Arrow field of each metadata column, looking at every table's schema and each JSONL file's first lines.

    `files` is iterated once, or twice if the first lines lacked a column or gave a metadata column no type. ValueError
    if every file lacks the text, the id or a metadata column, if two files disagree about a metadata column's type,
    if a column `id` that nobody named holds what cannot be an id.
    """
    survey = _Survey(columns)
    for file in files:
        survey.add(file, SAMPLE_LINES if columns.metadata else NAME_LINES)
    if survey.lines and survey.is_incomplete():
        for file in files:
            if file.format == JSONL:
                survey.add(file, None)
    survey.check_columns()
    survey.check_metadata()
    return tuple(pa.field(name, survey.types.get(name) or pa.string()) for name in columns.metadata)


class _Survey:
    """What the files hold, as far as it was looked at."""

    def __init__(self, columns: ColumnRoles):
        self.columns = columns
        self.found: dict[str, None] = {}  # names, in the order they were met
        self.types: dict[str, pa.DataType] = {}
        self.origin: dict[str, str] = {}  # the file that gave a column its type
        self.texts = self.tables = self.lines = 0
        self.having = {name: 0 for name in (columns.text, columns.id) if name}

    def add(self, file: InputFile, limit: int | None) -> None:
        named = {name: pa.string() for name in partitions(file) if name in self.columns.metadata}
        if file.format == TEXT:
            self.texts += 1
            self._add_columns(file, named)
        elif file.format == JSONL:
            self.lines += 1
            self._require_ids(file, unusable_ids(file) if self.columns.id is None else None)
            self._add_columns(file, named | _types_of_lines(file, self.columns, limit))
        elif file.format not in (IGNORED, LINK):
            self.tables += 1
            schema = table_schema(file)
            if schema is not None:
                self._require_ids(file, id_column_fault(schema, self.columns) if self.columns.id is None else None)
                self._add_columns(file, named | {field.name: field.type for field in schema})

    def _require_ids(self, file: InputFile, fault: str | None) -> None:
        """Ids that are of no use: made ones in their place would never find a changed text again."""
        if fault is not None:
            raise Refusal(
                f"{file.name}: {fault}. Name another column by --id-column, or say --id-column '' to have ids made of "
                "the texts"
            )

    def is_incomplete(self) -> bool:
        return not all(self.having.values()) or not self.types.keys() >= set(self.columns.metadata)

    def check_columns(self) -> None:
        """The text column, and an id column that was named, must stand in some file."""
        for name, having in self.having.items():
            if not having and not self.texts and self.found:
                option = "--text-column" if name == self.columns.text else "--id-column"
                raise Refusal(f"no file has a column {name!r}; found {', '.join(self.found)}. Name one by {option}")

    def check_metadata(self) -> None:
        unseen = [name for name in self.columns.metadata if name not in self.found]
        if unseen:
            names = ", ".join(map(repr, unseen))
            raise Refusal(f"no file has the metadata column {names}; found {', '.join(self.found) or 'no columns'}")

    def _add_columns(self, file: InputFile, types: dict[str, pa.DataType | None]) -> None:
        self.found.update(dict.fromkeys(types))
        for name in self.having:
            self.having[name] += name in types
        for name in self.columns.metadata:
            if types.get(name) is not None:
                self._unify(name, _held_as(types[name], name, file), file)

    def _unify(self, name: str, kind: pa.DataType, file: InputFile) -> None:
        known = self.types.setdefault(name, kind)
        origin = self.origin.setdefault(name, file.name)
        both = _wider(known, kind)
        if both is None:
            raise Refusal(f"column {name!r} is {known} in {origin} but {kind} in {file.name}: make them one type")
        self.types[name] = both


def _types_of_lines(file: InputFile, columns: ColumnRoles, limit: int | None) -> dict[str, pa.DataType | None]:
    """Every key of the first objects; a metadata column with its first value's type, integers widened to floats."""
    types: dict[str, pa.DataType | None] = {}
    for found in objects(file, limit):
        for name in found:
            types.setdefault(name, None)
        for name in columns.metadata:
            kind = _json_type(found.get(name), name, file)
            if kind is not None and types[name] in (None, pa.int64()) and kind in (pa.float64(), types[name] or kind):
                types[name] = kind
    return types


def _json_type(value: object, name: str, file: InputFile) -> pa.DataType | None:
    if value is None:
        return None
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if type(value) not in kinds:
        raise Refusal(f"column {name!r} holds {kind_of(value)} in {file.name}: wanted strings, numbers or booleans")
    return kinds[type(value)]


def _held_as(kind: pa.DataType, name: str, file: InputFile) -> pa.DataType | None:
    """The type a Delta table holds such values as: signed integers, plain strings, microseconds."""
    held = _plain(kind)
    if held is None:
        raise Refusal(f"column {name!r} is {one_line(kind)} in {file.name}, which a bank cannot hold: convert it first")
    return held


def _plain(kind: pa.DataType) -> pa.DataType | None:
    t = pa.types
    if t.is_dictionary(kind):
        return _plain(kind.value_type)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind) or t.is_null(kind):
        return pa.string()
    if t.is_unsigned_integer(kind):
        return {8: pa.int16(), 16: pa.int32()}.get(kind.bit_width, pa.int64())
    if t.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if t.is_list(kind) or t.is_large_list(kind):
        return None if _plain(kind.value_type) is None else pa.list_(_plain(kind.value_type))
    if t.is_float16(kind):
        return pa.float32()
    same = (
        t.is_boolean(kind)
        or t.is_signed_integer(kind)
        or t.is_floating(kind)
        or t.is_date32(kind)
        or t.is_binary(kind)
        or t.is_decimal128(kind)
    )
    return kind if same else None


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds both, for equal types and for numbers."""
    if one == other:
        return one
    numbers = [kind for kind in (one, other) if pa.types.is_integer(kind) or pa.types.is_floating(kind)]
    if len(numbers) < 2:
        return None
    if any(pa.types.is_floating(kind) for kind in numbers) and not all(pa.types.is_floating(kind) for kind in numbers):
        return pa.float64()
    return max(numbers, key=lambda kind: kind.bit_width)
