"""A memory as Haystack knows one: a DocumentStore, and a component that searches it.

store = NextMemDocumentStore("bank", columns={"topic": str})
store.write_documents([Document(content="The ferry leaves pier 3 at 5:40.", meta={"topic": "harbour"})])
NextMemRetriever(store).run("when does the ferry leave", top_k=1)["documents"]
"""

from __future__ import annotations

import datetime
import functools
import operator
import os
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from haystack import Document, component, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

from model.refusal import Missing
from nextmem.bridges.documents import Given, held, new_memory, put, remove, stored
from nextmem.creating import Kind
from nextmem.memory import Memory

ORDERED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
Tree = dict[str, Any]


class NextMemDocumentStore:
    """A bank of documents' contents, exact, with their meta. Embeddings that a document brings are not kept: the bank's
    codec makes its own. `columns`: the meta fields to filter by, with their types; only a new bank takes them."""

    def __init__(
        self,
        bank: str | os.PathLike[str],
        *,
        columns: Mapping[str, Kind] | None = None,
        memory: Memory | None = None,
        **how: Any,
    ):
        self._bank, self._columns, self._how = os.fspath(bank), columns, how
        self.memory = memory or self._opened()

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` opens the same bank by."""
        return default_to_dict(self, bank=self._bank)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> NextMemDocumentStore:
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        return len(held(self.memory))

    def filter_documents(self, filters: Tree | None = None) -> list[Document]:
        """Documents that the filters are true of, in the bank's order. Raises FilterError."""
        rows = expression(filters, self.memory.bank.schema) if filters else None
        return [_document(each) for each in stored(self.memory, held(self.memory, filter=rows))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """How many were written, in one commit. Without a policy one that is there is refused, and nothing is done.

        Raises DuplicateDocumentError, ValueError for what is no document or has no text.
        """
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError("write_documents takes a list of Documents")
        if textless := next((each.id for each in documents if not each.content), None):
            raise ValueError(f"the document {textless!r} has no content: a memory keeps texts")
        given = {each.id: each for each in documents}
        there = set(held(self.memory, given)) if given else set()
        if policy == DuplicatePolicy.SKIP:
            given = {doc_id: each for doc_id, each in given.items() if doc_id not in there}
        elif policy != DuplicatePolicy.OVERWRITE and (there or len(given) < len(documents)):
            raise DuplicateDocumentError(
                f"{len(there) or 'some'} of these documents are there already: {sorted(there)[:3]}"
            )
        if given:
            put(self.memory, [Given(each.id, each.content or "", each.meta) for each in given.values()])
        return len(given)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Forget them for good. One that is not there is no error."""
        remove(self.memory, document_ids)

    def search(self, query: str, top_k: int = 10, filters: Tree | None = None) -> list[Document]:
        """The pieces that answer best, with scores. Their meta is their documents', with `source_id` and `split_id`."""
        rows = expression(filters, self.memory.bank.schema) if filters else None
        hits = self.memory.search(query, top_k, filter=rows)
        meta = {each.doc_id: each.metadata for each in stored(self.memory, [hit.doc_id for hit in hits])}
        return [
            Document(
                id=hit.chunk_id,
                content=hit.text,
                meta={**meta[hit.doc_id], "source_id": hit.doc_id, "split_id": hit.position},
                score=hit.score,
            )
            for hit in hits
        ]

    def _opened(self) -> Memory:
        try:
            return Memory(self._bank)
        except Missing:
            return new_memory(self._bank, columns=self._columns, **self._how)


@component
class NextMemRetriever:
    """Searches a NextMemDocumentStore in a pipeline."""

    def __init__(self, document_store: NextMemDocumentStore, top_k: int = 10, filters: Tree | None = None):
        self.document_store, self.top_k, self.filters = document_store, top_k, filters

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None, filters: Tree | None = None) -> dict[str, list[Document]]:
        return {"documents": self.document_store.search(query, top_k or self.top_k, filters or self.filters)}


def expression(filters: Tree, schema: pa.Schema) -> pc.Expression:
    """Haystack's filters as an expression of the bank's columns. It is true or false of each row, never null.

    Raises FilterError for what is malformed, an operator that is none, and a field that the bank has no column of.
    """
    if not isinstance(filters, dict) or "operator" not in filters:
        raise FilterError(f"a filter needs an operator: {filters!r}")
    if "field" in filters:
        return _compared(filters, schema)
    if "conditions" not in filters:
        raise FilterError(f"a filter needs a field, or conditions: {filters!r}")
    parts = [expression(each, schema) for each in filters["conditions"]]
    joined = {"AND": operator.and_, "OR": operator.or_, "NOT": operator.and_}.get(filters["operator"])
    if joined is None or not parts:
        raise FilterError(f"{filters['operator']!r} of {len(parts)} conditions: wanted AND, OR or NOT of one or more")
    whole = functools.reduce(joined, parts)
    return ~whole if filters["operator"] == "NOT" else whole


def _compared(condition: Tree, schema: pa.Schema) -> pc.Expression:
    if "value" not in condition:
        raise FilterError(f"a comparison needs a value: {condition!r}")
    sign, value = condition["operator"], condition["value"]
    field, kind = _column(condition["field"], schema)
    if sign in ("==", "!="):
        same = field.is_null() if value is None else (field == _typed(value, kind, condition)) & field.is_valid()
        return ~same if sign == "!=" else same
    if sign in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"`{sign}` takes a list: {condition!r}")
        among = field.isin(pa.array([_typed(each, kind, condition).as_py() for each in value], kind))
        return ~among if sign == "not in" else among
    if sign not in ORDERED:
        raise FilterError(f"{sign!r} is no operator of a comparison: {condition!r}")
    if value is None:
        return pc.scalar(False)
    if isinstance(value, list) or (isinstance(value, str) and not _is_date(value)):
        raise FilterError(f"`{sign}` compares numbers and dates in ISO form: {condition!r}")
    return ORDERED[sign](field, _typed(value, kind, condition)) & field.is_valid()


def _column(name: str, schema: pa.Schema) -> tuple[pc.Expression, pa.DataType]:
    found = {"id": "doc_id"}.get(name, name.removeprefix("meta."))
    if found not in schema.names:
        raise FilterError(
            f"the bank has no column for {name!r}, so it can't be filtered by; it has {', '.join(schema.names)}"
        )
    return pc.field(found), schema.field(found).type


def _typed(value: Any, kind: pa.DataType, condition: Tree) -> pa.Scalar:
    try:
        return pa.scalar(value).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        raise FilterError(f"{value!r} is no value of the column, which is {kind}: {condition!r}") from None


def _is_date(value: str) -> bool:
    try:
        datetime.datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _document(given: Given) -> Document:
    return Document(id=given.doc_id, content=given.text, meta=dict(given.metadata))
