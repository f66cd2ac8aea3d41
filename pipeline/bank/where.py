"""Which rows of a bank, said in words: `year >= 2020 and lang in ('en', 'de') and not title like 'List of%'`.

What is said becomes a pyarrow expression of the columns' own types, in a form that the smallest and largest values of
files and row groups can rule out: `not` goes down to the comparisons, which turn round. A row counts where the whole is
true. A comparison with a null is neither true nor false, as in SQL, and so is its opposite.
"""

from __future__ import annotations

import datetime
import functools
import operator
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.where_grammar import column_name, parsed, refusal, value_text

if TYPE_CHECKING:
    from lark import Token, Tree

COMPARE = {
    **{"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne},
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
}
OPPOSITE = {"=": "!=", "==": "!=", "!=": "=", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
LITERAL_START = re.compile(r"[^%_\\]*")  # what every text begins with that is like a pattern


def rows_where(conditions: Sequence[str], schema: pa.Schema) -> pc.Expression | None:
    """Rows for which all conditions hold; None for no condition. where_grammar.py has the grammar of a condition.

    Raises Refusal naming the place of what does not parse, names no column, or is no value of the column's type.
    """
    parts = [_Condition(text, schema).expression() for text in conditions]
    return functools.reduce(operator.and_, parts) if parts else None


def column_of(name: str, schema: pa.Schema) -> tuple[pc.Expression, pa.DataType]:
    """A column, or `column.field` of a struct, and its type. Raises Refusal naming the columns that there are."""
    if name in schema.names:
        return pc.field(name), schema.field(name).type
    first, *rest = name.split(".")
    kind = schema.field(first).type if first in schema.names else None
    for field in rest:
        place = kind.get_field_index(field) if kind is not None and pa.types.is_struct(kind) else -1
        kind = kind.field(place).type if place >= 0 else None
    if kind is None:
        raise Refusal(f"the bank has no column {name!r} to filter by; it has {', '.join(schema.names)}")
    return pc.field(first, *rest), kind


def typed(value: object, kind: pa.DataType) -> pa.Scalar:
    """A value, or a text that says it, as a column's type has it. Raises ValueError or TypeError."""
    if isinstance(value, str) and pa.types.is_timestamp(kind):
        value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime) and pa.types.is_timestamp(kind):
        if kind.tz is None and value.tzinfo is not None:
            raise ValueError("the column knows no time zone")
        value = value.replace(tzinfo=datetime.UTC) if kind.tz and value.tzinfo is None else value
    if isinstance(value, str) and pa.types.is_time(kind):
        value = datetime.time.fromisoformat(value)
    try:
        return pa.scalar(value).cast(kind)
    except pa.ArrowNotImplementedError as error:
        raise ValueError(str(error)) from error


def bound(expression: pc.Expression, schema: pa.Schema) -> pc.Expression:
    """The expression itself. Raises Refusal where a column that it names is not there, or its types do not fit."""
    try:
        schema.empty_table().filter(expression)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        said = str(error).partition("\n")[0]
        raise Refusal(f"the filter {expression} does not fit the bank's columns: {said}") from error
    return expression


class _Condition:
    """One text and the columns that it may name."""

    def __init__(self, text: str, schema: pa.Schema):
        self.text, self.schema = text, schema

    def expression(self) -> pc.Expression:
        try:
            return bound(self._rows(parsed(self.text), False), self.schema)
        except RecursionError:
            raise Refusal(f"filter {self.text[:40]!r}...: it is nested too deep to be read") from None

    def _rows(self, tree: Tree, opposite: bool) -> pc.Expression:
        """Rows for which the tree is true or, of its opposite, false."""
        if tree.data in ("either", "both"):
            joined = operator.or_ if (tree.data == "either") != opposite else operator.and_
            return functools.reduce(joined, (self._rows(part, opposite) for part in tree.children))
        if tree.data == "opposite":
            return self._rows(tree.children[0], not opposite)
        return getattr(self, f"_{tree.data}")(*tree.children, opposite)

    def _compared(self, column: Tree, sign: Token, value: Tree, opposite: bool) -> pc.Expression:
        field, kind = self._comparable(column)
        return COMPARE[OPPOSITE[sign] if opposite else sign](field, self._value(value, column, kind))

    def _among(self, column: Tree, negation: Token | None, *rest: Tree | bool) -> pc.Expression:
        *values, opposite = rest
        field, kind = self._comparable(column)
        found = field.isin(pa.array([self._value(value, column, kind).as_py() for value in values], kind))
        return ~found & field.is_valid() if opposite != bool(negation) else found

    def _between(self, column: Tree, negation: Token | None, low: Tree, high: Tree, opposite: bool) -> pc.Expression:
        field, kind = self._comparable(column)
        least, most = self._value(low, column, kind), self._value(high, column, kind)
        if opposite != bool(negation):
            return (field < least) | (field > most)
        return (field >= least) & (field <= most)

    def _like(self, column: Tree, negation: Token | None, value: Tree, opposite: bool) -> pc.Expression:
        field, kind = self._comparable(column)
        if not pa.types.is_string(kind):
            raise self._refusal(
                column_name(column), f"{column_name(column)} is {kind}, and only a text is like another"
            )
        pattern = str(value_text(value, self.text))
        found = pc.match_like(field, pattern)
        return ~found if opposite != bool(negation) else found & _begins(field, LITERAL_START.match(pattern)[0])

    def _empty(self, column: Tree, negation: Token | None, opposite: bool) -> pc.Expression:
        field, _ = self._column(column)
        return field.is_valid() if opposite != bool(negation) else field.is_null()

    def _column(self, column: Tree) -> tuple[pc.Expression, pa.DataType]:
        name = column_name(column)
        try:
            return column_of(str(name), self.schema)
        except Refusal as error:
            raise self._refusal(name, str(error)) from None

    def _comparable(self, column: Tree) -> tuple[pc.Expression, pa.DataType]:
        field, kind = self._column(column)
        if pa.types.is_nested(kind) or pa.types.is_binary(kind):
            name = column_name(column)
            hint = "; a field of it is NAME.FIELD" if pa.types.is_struct(kind) else ""
            raise self._refusal(name, f"{name} is {kind}, of which only `is null` can be asked{hint}")
        return field, kind

    def _value(self, value: Tree, column: Tree, kind: pa.DataType) -> pa.Scalar:
        said = value_text(value, self.text)
        try:
            return typed(str(said), kind)
        except (ValueError, TypeError):
            why = f"{str(said)!r} is no value of the column {column_name(column)}, which is {kind}"
            raise self._refusal(said, why) from None

    def _refusal(self, token: Token, said: str) -> Refusal:
        return refusal(self.text, token.start_pos, said)


def _begins(field: pc.Expression, start: str) -> pc.Expression:
    """True of every text that begins so, and told in comparisons, which rule files out where a pattern does not."""
    if not start:
        return pc.scalar(True)
    after = ord(start[-1]) + 1
    if 0xD800 <= after <= 0xDFFF or after > 0x10FFFF:
        return field >= start
    return (field >= start) & (field < start[:-1] + chr(after))
