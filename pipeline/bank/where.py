"""`--where "NAME OP VALUE"`: which rows of a bank, said on the command line."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal

OPERATORS = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")


def rows_where(conditions: Sequence[str], schema: pa.Schema) -> pc.Expression | None:
    """Rows for which all conditions hold; None for no condition. A null meets none of them.

    Raises ValueError naming what is no condition, no column of the bank's, or no value of the column's type.
    """
    parts = [_condition(text, schema) for text in conditions]
    return functools.reduce(operator.and_, parts) if parts else None


def _condition(text: str, schema: pa.Schema) -> pc.Expression:
    found = CONDITION.fullmatch(text)
    if not found:
        raise Refusal(f"--where {text!r}: wanted NAME OP VALUE, with one of {' '.join(OPERATORS)} between")
    name, sign, value = found.groups()
    comparable = [f.name for f in schema if not pa.types.is_nested(f.type) and not pa.types.is_binary(f.type)]
    if name not in comparable:
        raise Refusal(f"--where {text!r}: {name} is none of the columns that can be compared, {comparable}")
    kind = schema.field(name).type
    try:
        wanted = pa.scalar(value).cast(kind)
    except pa.ArrowInvalid:
        raise Refusal(f"--where {text!r}: {value!r} is no value of the column {name}, which is {kind}") from None
    return OPERATORS[sign](pc.field(name), wanted)
