"""A memory as LangGraph's long-term store: items by namespace and key, found by what they say.

    store = NextMemStore("bank")
    store.put(("users", "ada"), "coffee", {"text": "Ada takes her coffee black."})
    store.search(("users",), query="how does she like it")

An item is a document of the bank. Its value lies in a column as JSON, so that reading it needs no codec; its text is
what is encoded and searched.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    get_text_at_path,
    tokenize_path,
)

from model.refusal import Missing, Refusal
from nextmem.creating import create
from nextmem.memory import Memory

COLUMNS = {
    "namespace": str,  # JSON list
    "key": str,
    "value": str,  # JSON
    "indexed": bool,  # whether a query may find it
    "created_at": datetime.datetime,
    "updated_at": datetime.datetime,
}
Place = tuple[tuple[str, ...], str]  # namespace and key
OPERATORS = {
    "$eq": lambda value, wanted: value == wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: float(value) > float(wanted),
    "$gte": lambda value, wanted: float(value) >= float(wanted),
    "$lt": lambda value, wanted: float(value) < float(wanted),
    "$lte": lambda value, wanted: float(value) <= float(wanted),
}


class NextMemStore(BaseStore):
    """A bank as a store; a new one where there is none. `fields`: paths of a value that are its text, all by default.

    `how`: what `nextmem.create` takes for a new bank. Operations of one batch read what was there before it; its puts
    are one commit, its deletions another. Items live until they are deleted: a time to live is refused.
    """

    supports_ttl = False

    def __init__(
        self, bank: str | os.PathLike[str], *, fields: list[str] | None = None, memory: Memory | None = None, **how: Any
    ):
        self.memory = memory or _opened(bank, how)
        self._fields = fields or ["$"]

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Each operation's result, in order. Raises Refusal for an operation that is none."""
        self.memory.bank.reload()
        results: list[Result] = []
        puts: dict[Place, PutOp] = {}
        for op in ops:
            match op:
                case GetOp():
                    results.append(self._get(op))
                case SearchOp():
                    results.append(self._search(op))
                case ListNamespacesOp():
                    results.append(self._namespaces(op))
                case PutOp():
                    puts[op.namespace, op.key] = op
                    results.append(None)
                case _:
                    raise Refusal(f"{type(op).__name__} is no operation of a store")
        self._put(puts)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """`batch`, in a thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _get(self, op: GetOp) -> Item | None:
        rows = self._rows(pc.field("doc_id") == _doc_id(op.namespace, op.key))
        return Item(**_fields_of(rows[0])) if rows else None

    def _search(self, op: SearchOp) -> list[SearchItem]:
        """By a query: best first, then those that no query finds. Without one: by namespace and key."""
        rows = [row for row in self._rows(_within(op.namespace_prefix)) if _meets(row["value"], op.filter)]
        if not op.query:
            found = [
                SearchItem(**_fields_of(row)) for row in sorted(rows, key=lambda row: (row["namespace"], row["key"]))
            ]
            return found[op.offset : op.offset + op.limit]
        by_id = {_doc_id(row["namespace"], row["key"]): row for row in rows}
        scores = self._scores(op.query, [doc_id for doc_id, row in by_id.items() if row["indexed"]])
        found = [SearchItem(**_fields_of(by_id[doc_id]), score=score) for doc_id, score in scores.items()]
        unscored = [SearchItem(**_fields_of(row)) for doc_id, row in by_id.items() if doc_id not in scores]
        return [*found, *unscored][op.offset : op.offset + op.limit]

    def _scores(self, query: str, doc_ids: list[str]) -> dict[str, float]:
        """The documents' best chunks' scores, best first."""
        if not doc_ids:
            return {}
        theirs = pc.field("doc_id").isin(pa.array(doc_ids, pa.string()))
        chunks = self.memory.bank.to_arrow(["chunk_id"], filter=theirs).num_rows
        best: dict[str, float] = {}
        for hit in self.memory.search(query, chunks, filter=theirs):
            best.setdefault(hit.doc_id, hit.score)
        return best

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        every = {tuple(row["namespace"]) for row in self._rows(None)}
        kept = {each for each in every if all(_matches(each, how) for how in op.match_conditions or ())}
        cut = sorted({each[: op.max_depth] for each in kept})
        return cut[op.offset : op.offset + op.limit]

    def _put(self, puts: Mapping[Place, PutOp]) -> None:
        gone = [_doc_id(*place) for place, op in puts.items() if op.value is None]
        kept = {place: op for place, op in puts.items() if op.value is not None}
        wanted = pa.array([*gone, *(_doc_id(*place) for place in kept)], pa.string())
        there = {_doc_id(row["namespace"], row["key"]): row for row in self._rows(pc.field("doc_id").isin(wanted))}
        if kept:
            now = datetime.datetime.now(datetime.UTC)
            records = [self._record(op, there.get(_doc_id(*place)), now) for place, op in kept.items()]
            self.memory.remember(records, update=True)
        if found := [doc_id for doc_id in gone if doc_id in there]:
            self.memory.forget(found)

    def _record(self, op: PutOp, before: dict[str, Any] | None, now: datetime.datetime) -> dict[str, Any]:
        try:
            value = json.dumps(op.value, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise Refusal(f"the value of {op.key!r} in {'/'.join(op.namespace)} is not JSON: {error}") from None
        texts = self._texts(op)
        return {
            "doc_id": _doc_id(op.namespace, op.key),
            "text": "\n".join(texts) or value,
            "namespace": json.dumps(op.namespace, ensure_ascii=False),
            "key": op.key,
            "value": value,
            "indexed": bool(texts),
            "created_at": before["created_at"] if before else now,
            "updated_at": now,
        }

    def _texts(self, op: PutOp) -> list[str]:
        """What of a value is its text; nothing, where it is not to be found by a query."""
        if op.index is False:
            return []
        paths = self._fields if op.index is None else op.index
        return [
            text
            for path in paths
            for text in get_text_at_path(op.value, tokenize_path(path) if path != "$" else path)
            if text
        ]

    def _rows(self, filter: pc.Expression | None) -> list[dict[str, Any]]:
        """Items as they are stored, with namespace and value read."""
        first = pc.field("position") == 0
        rows = self.memory.bank.to_arrow(list(COLUMNS), filter=first if filter is None else first & filter).to_pylist()
        return [row | {"namespace": json.loads(row["namespace"]), "value": json.loads(row["value"])} for row in rows]


def _opened(bank: str | os.PathLike[str], how: dict[str, Any]) -> Memory:
    try:
        memory = Memory(bank)
    except Missing:
        return Memory(create(bank, columns=COLUMNS, **how))
    if lacking := sorted(COLUMNS.keys() - set(memory.bank.schema.names)):
        raise Refusal(f"the bank {memory.bank.path} is no store of LangGraph's: it has no column {', '.join(lacking)}")
    return memory


def _doc_id(namespace: Iterable[str], key: str) -> str:
    return json.dumps([*namespace, key], ensure_ascii=False)


def _within(prefix: tuple[str, ...]) -> pc.Expression | None:
    """Rows of the namespaces that begin so: the JSON list, up to its bracket, begins so too."""
    if not prefix:
        return None
    begin = json.dumps(prefix, ensure_ascii=False)[:-1]
    return (pc.field("namespace") == begin + "]") | pc.starts_with(pc.field("namespace"), begin + ", ")


def _fields_of(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"]),
        "key": row["key"],
        "value": row["value"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def _meets(value: dict[str, Any], wanted: dict[str, Any] | None) -> bool:
    return all(_fits(value.get(name), each) for name, each in (wanted or {}).items())


def _fits(value: Any, wanted: Any) -> bool:
    """Equal, or as the operators ask; dicts and lists part by part. Raises Refusal for an operator that is none."""
    if isinstance(wanted, dict):
        if unknown := [name for name in wanted if name.startswith("$") and name not in OPERATORS]:
            raise Refusal(f"{unknown[0]!r} is no operator of a filter: wanted one of {', '.join(OPERATORS)}")
        if any(name in OPERATORS for name in wanted):
            return all(OPERATORS[name](value, each) for name, each in wanted.items())
        return isinstance(value, dict) and all(_fits(value.get(name), each) for name, each in wanted.items())
    if isinstance(wanted, list | tuple):
        same = isinstance(value, list | tuple) and len(value) == len(wanted)
        return same and all(_fits(*pair) for pair in zip(value, wanted, strict=True))
    return value == wanted


def _matches(namespace: tuple[str, ...], how: MatchCondition) -> bool:
    if len(namespace) < len(how.path):
        return False
    part = namespace[: len(how.path)] if how.match_type == "prefix" else namespace[len(namespace) - len(how.path) :]
    return all(wanted in ("*", found) for found, wanted in zip(part, how.path, strict=True))
