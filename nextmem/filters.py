"""Which rows of a bank: a pyarrow expression, or a dict of column to value or list of values."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal

Filter: TypeAlias = pc.Expression | Mapping[str, object]


def expression(filter: Filter | None, schema: pa.Schema) -> pc.Expression | None:
    """A filter as pyarrow knows it: all that a dict says must hold. Raises Refusal for a column that is not there."""
    if filter is None or isinstance(filter, pc.Expression):
        return filter
    if not isinstance(filter, Mapping):
        raise TypeError(f"a filter is a pyarrow expression or a dict of column to value, not {type(filter).__name__}")
    missing = next((name for name in filter if name not in schema.names), None)
    if missing is not None:
        raise Refusal(f"the bank has no column {missing!r} to filter by; it has {', '.join(schema.names)}")
    parts = [_holds(pc.field(name), value) for name, value in filter.items()]
    return functools.reduce(operator.and_, parts) if parts else None


def _holds(column: pc.Expression, value: object) -> pc.Expression:
    if value is None:
        return column.is_null()
    if isinstance(value, list | tuple | set | frozenset):
        return column.isin(list(value))
    return column == value
