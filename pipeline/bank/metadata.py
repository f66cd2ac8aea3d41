"""The user's own columns in a bank: which Arrow types Delta can hold, and whether two jobs bring the same ones."""

from __future__ import annotations

import pyarrow as pa
from deltalake import Schema

from model.refusal import Refusal
from pipeline.schema import RESERVED, row_schema

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
}
"""Delta knows signed integers, one string, and two widths of float."""


def bank_schema(metadata_fields: tuple[pa.Field, ...] = ()) -> pa.Schema:
    """row_schema's columns, then the user's own as Delta can hold them. Raises ValueError naming the column."""
    taken = {name.lower() for name in RESERVED}
    for field in metadata_fields:
        if field.name.lower() in taken:
            raise Refusal(
                f"metadata column {field.name!r} is taken already (names differ by more than case): rename it"
            )
        taken.add(field.name.lower())
    return row_schema(tuple(storable(field) for field in metadata_fields))


def storable(field: pa.Field) -> pa.Field:
    """The column in the nearest type Delta holds without loss. Raises ValueError where there is none."""
    wanted = pa.field(field.name, _storable_type(field.type))
    try:
        held = pa.schema(Schema.from_arrow(pa.schema([wanted])).to_arrow()).field(0)
    except Exception as error:  # deltalake raises bare Exception for a type it does not know
        raise Refusal(
            f"metadata column {field.name!r} is {field.type}, which a bank can't hold: make it text"
        ) from error
    if pa.types.is_null(held.type):
        raise Refusal(f"metadata column {field.name!r} has no values and so no type: leave it out")
    return held


def require_same_columns(bank: str, held: tuple[pa.Field, ...], brought: tuple[pa.Field, ...]) -> None:
    """Raises ValueError naming both sides where a job brings other metadata columns than the bank has."""
    ours = {field.name: str(field.type) for field in held}
    theirs = {field.name: str(storable(field).type) for field in brought}
    if ours != theirs:
        raise Refusal(
            f"{bank} has the metadata columns {_listed(ours)}; this job brings {_listed(theirs)}. "
            "Ask for the bank's columns."
        )


def _storable_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _storable_type(kind.value_type)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp("us", tz="UTC")
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else _WIDER.get(kind, kind)


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "none"
