"""Rows by id: find them in the id column alone, then read only the row groups they lie in.

A bank has no index. The id column of a million chunks is 32 MB; reading every column to filter it would be 7 GB.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.schema import CHUNK_ID, DOC_ID, POSITION

SUGGEST_AMONG = 10_000


class NotInBank(Refusal, KeyError):  # noqa: N818  (it reads as what it says)
    """An id the bank does not hold. A KeyError whose text is a sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


def by_chunk_id(bank: Bank, chunk_ids: Sequence[str]) -> pa.Table:
    """The rows of these chunks, all columns, in the order asked for. Raises NotInBank naming the first one missing."""
    found = _rows_where(bank, CHUNK_ID, list(dict.fromkeys(chunk_ids)))
    places = {chunk_id: row for row, chunk_id in enumerate(found.column(CHUNK_ID).to_pylist())}
    require_all(bank, CHUNK_ID, chunk_ids, places)
    return found.take([places[chunk_id] for chunk_id in chunk_ids])


def by_doc_id(bank: Bank, doc_id: str) -> pa.Table:
    """The rows of one document, all columns, ordered by position. Raises NotInBank."""
    found = _rows_where(bank, DOC_ID, [doc_id])
    require_all(bank, DOC_ID, [doc_id], {doc_id} if found.num_rows else ())
    return found.sort_by(POSITION)


def require_document(bank: Bank, doc_id: str) -> None:
    """Raises NotInBank where the bank has no such document."""
    held = any(batch.num_rows for batch in bank.rows([DOC_ID], pc.field(DOC_ID) == doc_id))
    require_all(bank, DOC_ID, [doc_id], {doc_id} if held else ())


def _rows_where(bank: Bank, column: str, values: list[str]) -> pa.Table:
    wanted = pa.array(values, pa.string())
    pieces = [
        piece
        for fragment in bank.dataset().get_fragments(pc.field(column).isin(wanted))
        for piece in _rows_in(fragment, bank.schema, column, wanted)
    ]
    return pa.concat_tables([bank.schema.empty_table(), *pieces])


def _rows_in(fragment: ds.ParquetFileFragment, schema: pa.Schema, column: str, wanted: pa.Array) -> Iterator[pa.Table]:
    """The matching rows of one file. Its other row groups are not read."""
    ids = fragment.to_table(columns=[column]).column(0)
    matching = pc.is_in(ids, wanted)
    start = 0
    for group in fragment.row_groups:
        inside = matching.slice(start, group.num_rows)
        start += group.num_rows
        if pc.any(inside).as_py():
            yield fragment.subset(row_group_ids=[group.id]).to_table(schema=schema).filter(inside).cast(schema)


def require_all(bank: Bank, column: str, wanted: Iterable[str], held: Container[str]) -> None:
    """Raises NotInBank naming the first id that is not among those held, and ids that look like it."""
    missing = next((value for value in wanted if value not in held), None)
    if missing is not None:
        raise NotInBank(
            f"{bank.folder.uri} has no {column} {missing!r} at version {bank.version}. "
            + _suggestion(bank, column, missing)
        )


def _suggestion(bank: Bank, column: str, missing: str) -> str:
    """That it was forgotten; else ids that look like it, or the first ones, among the first few thousand chunks."""
    if column == DOC_ID and (at := bank.forgotten().among([missing])):
        return f"It was forgotten in version {at[missing]}."
    ids = (value for batch in bank.rows([column]) for value in batch.column(0).to_pylist())
    some = list(dict.fromkeys(itertools.islice(ids, SUGGEST_AMONG)))
    close = difflib.get_close_matches(missing, some, n=3)
    if not some:
        return "The bank is empty: `nextmem encode` fills it."
    return (
        f"Did you mean {', '.join(map(repr, close))}?"
        if close
        else f"Ids there look like {', '.join(map(repr, some[:3]))}."
    )
