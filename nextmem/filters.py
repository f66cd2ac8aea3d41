"""Which rows of a bank: said in words, as a dict of column to value or list of values, or as a pyarrow expression."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.where import bound, column_of, rows_where, typed

Filter: TypeAlias = pc.Expression | Mapping[str, object] | str | Sequence[str]
"""`"year >= 2020 and lang in (en, de)"`, several such texts, `{"lang": ["en", "de"]}`, `pc.field("year") >= 2020`."""


def expression(filter: Filter | None, schema: pa.Schema) -> pc.Expression | None:
    """A filter as pyarrow knows it; None for none. All that a dict or several texts say must hold.

    A dict's value None is null. Raises Refusal for a text that does not parse, a column that is not there, or a value
    that is not of the column's type.
    """
    if filter is None:
        return None
    if isinstance(filter, pc.Expression):
        return bound(filter, schema)
    if isinstance(filter, str):
        return rows_where([filter], schema)
    if isinstance(filter, Sequence) and all(isinstance(text, str) for text in filter):
        return rows_where(filter, schema)
    if not isinstance(filter, Mapping):
        raise TypeError(
            f"a filter is a text, a dict of column to value or a pyarrow expression, not {type(filter).__name__}"
        )
    parts = [_holds(name, value, schema) for name, value in filter.items()]
    return bound(functools.reduce(operator.and_, parts), schema) if parts else None


def _holds(name: str, value: object, schema: pa.Schema) -> pc.Expression:
    column, kind = column_of(name, schema)
    if value is None:
        return column.is_null()
    if isinstance(value, list | tuple | set | frozenset):
        return column.isin(pa.array([_typed(name, each, kind).as_py() for each in value], kind))
    return column == _typed(name, value, kind)


def _typed(name: str, value: object, kind: pa.DataType) -> pa.Scalar:
    try:
        return typed(value, kind)
    except (ValueError, TypeError):
        raise Refusal(f"{value!r} is no value of the column {name}, which is {kind}") from None
