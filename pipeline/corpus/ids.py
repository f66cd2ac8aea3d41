"""What a file gives as an id becomes the text that the bank keeps: one spelling a value, exact, or none.

| found | kept as |
|---|---|
| text | itself |
| a whole number: integer, decimal or float | its digits: `101`, also where a gap made the column one of floats |
| a decimal with a fraction | its digits without closing zeros: `12.5` |
| a UUID | `0f7b1a8e-...`, lower case |
| bytes | their hex digits |
| a date, a time, a timestamp | ISO 8601, without closing zeros; `Z` where the column has a time zone |

A float with a fraction, or so large that whole numbers between are missing, has no exact text. Neither has a boolean, a
list, an object, a duration.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

TAKEN = "text, whole numbers, decimals, UUIDs, bytes, dates or times"
_WHOLE = {
    pa.float16(): 1 << 11,
    pa.float32(): 1 << 24,
    pa.float64(): 1 << 53,
}  # to here each whole number has its float
_ZEROS = re.compile(r"(\.\d*?)0+(?=Z|$)")


class RoundedFloat(float):
    """A float from a column in which no one whole number stands for it."""


def id_text(value: Any) -> str | None:
    """The text of one Python value, None where it has none."""
    if value.__class__ is str:
        return value if value and not value.isspace() and is_unicode(value) else None
    match value:
        case bool() | RoundedFloat():
            return None
        case int():
            return str(value)
        case float():
            return str(int(value)) if _is_whole(value, 1 << 53) else None
        case Decimal():
            return _decimal(value) if value.is_finite() else None
        case UUID():
            return str(value)
    return None


def is_id_type(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type have an exact text, floats as far as they are whole."""
    t = pa.types
    if t.is_dictionary(kind):
        return is_id_type(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return True
    plain = (t.is_string, t.is_large_string, t.is_string_view, t.is_integer, t.is_floating, t.is_decimal, t.is_date)
    return any(holds(kind) for holds in (*plain, t.is_time, t.is_timestamp, _is_bytes))


def id_texts(array: pa.Array) -> list[Any]:
    """An id column's values as their texts; what has none stays as it is, for `judge` to refuse."""
    kind, t = array.type, pa.types
    if t.is_dictionary(kind):
        return id_texts(array.dictionary_decode())
    if t.is_floating(kind):
        return [_float(value, _WHOLE[kind]) for value in array.to_pylist()]
    if _is_bytes(kind):
        return [None if value is None else value.hex() for value in array.to_pylist()]
    if t.is_timestamp(kind) or t.is_date(kind) or t.is_time(kind):
        return [_iso(value) for value in _in_utc(array).cast(pa.string()).to_pylist()]
    return array.to_pylist()


def id_fault(value: Any) -> str:
    """Why a value is no id, in a few words."""
    if value is None:
        return "id is null or missing"
    if isinstance(value, bytes):
        return "id is not valid UTF-8"
    if isinstance(value, str):
        return "id is not valid Unicode" if value.strip() else "id is empty"
    if isinstance(value, float):
        return f"id is {float(value)!r}, and a float is taken only where it is whole and exact: wanted {TAKEN}"
    kinds = {bool: "a boolean", list: "a list", dict: "an object"}
    return f"id is {kinds.get(type(value), f'of type {type(value).__name__}')}: wanted {TAKEN}"


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it: JSON may spell half a surrogate pair."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _float(value: float | None, whole: int) -> float | str | None:
    """NaN is what pandas writes for a gap."""
    if value is None or value != value:
        return None
    return str(int(value)) if _is_whole(value, whole) else RoundedFloat(value)


def _is_whole(value: float, whole: int) -> bool:
    return abs(value) <= whole and value.is_integer()


def _decimal(value: Decimal) -> str:
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _is_bytes(kind: pa.DataType) -> bool:
    t = pa.types
    return t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind) or t.is_binary_view(kind)


def _in_utc(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_date64(kind):
        return array.cast(pa.date32())
    return array.cast(pa.timestamp(kind.unit, "UTC")) if pa.types.is_timestamp(kind) and kind.tz else array


def _iso(text: str | None) -> str | None:
    return None if text is None else _ZEROS.sub(r"\1", text.replace(" ", "T")).replace(".Z", "Z").removesuffix(".")
