"""What frameworks call a document (an id, a text, a dict of metadata) in a memory, and back.

The whole metadata is kept as JSON in the bank's column `meta`. What of it has a column of its own name lies there too,
and only that can be filtered by.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from nextmem.creating import Kind, create
from nextmem.hits import require_exact
from nextmem.memory import Memory

if TYPE_CHECKING:
    from nextmem.filters import Filter

META = "meta"


@dataclass(frozen=True, slots=True)
class Given:
    """A document as a framework has it."""

    doc_id: str
    text: str
    metadata: Mapping[str, Any]


def new_memory(bank: str | os.PathLike[str], *, columns: Mapping[str, Kind] | None = None, **how: Any) -> Memory:
    """The memory of a new bank for documents: with the column `meta`, and those to filter by.

    `how`: what `nextmem.create` takes, codec and backbone and precision.
    """
    return Memory(create(bank, columns={META: str, **(columns or {})}, **how))


def put(memory: Memory, documents: Sequence[Given]) -> None:
    """All of them in one commit; a document whose id is there takes the new text and metadata.

    Raises Refusal where a text is empty, metadata is not JSON, or the bank has no column `meta` for it.
    """
    names = set(own_columns(memory))
    if META not in names:
        raise Refusal(f"the bank {memory.bank.path} has no column {META!r} for metadata: make one that has it")
    memory.remember([_record(each, names) for each in documents], update=True)


def held(memory: Memory, doc_ids: Iterable[str] | None = None, *, filter: Filter | None = None) -> list[str]:
    """The ids of those documents that are there; of all, or those that `filter` is true of, in the bank's order."""
    first = pc.field("position") == 0
    if doc_ids is not None:
        first = first & pc.field("doc_id").isin(pa.array(list(doc_ids), pa.string()))
    if isinstance(filter, pc.Expression):
        first = first & filter
    elif filter is not None:
        raise TypeError("give the filter as a pyarrow expression")
    return memory.bank.to_arrow(["doc_id"], filter=first)["doc_id"].to_pylist()


def stored(memory: Memory, doc_ids: Sequence[str]) -> list[Given]:
    """Documents with exact texts and their metadata, in the order asked for; those that are not there are left out."""
    if not doc_ids:
        return []
    theirs = pc.field("doc_id").isin(pa.array(list(doc_ids), pa.string()))
    rows = memory.bank.to_arrow(["chunk_id", "doc_id", "position", META], filter=theirs).sort_by("position").to_pylist()
    if not rows:
        return []
    texts = {
        row.chunk_id: require_exact(row).text
        for row in memory.bank.recalled(chunk_ids=[row["chunk_id"] for row in rows])
    }
    parts: dict[str, list[str]] = {}
    for row in rows:
        parts.setdefault(row["doc_id"], []).append(texts[row["chunk_id"]])
    metadata = {row["doc_id"]: json.loads(row[META] or "{}") for row in rows}
    return [Given(each, "".join(parts[each]), metadata[each]) for each in doc_ids if each in parts]


def remove(memory: Memory, doc_ids: Sequence[str] | None) -> int:
    """Forget those of the documents that are there, or all of them; how many they were."""
    there = held(memory, doc_ids)
    if there:
        memory.forget(there)
    return len(there)


def own_columns(memory: Memory) -> list[str]:
    """The names of the bank's columns that are not NextMem's own."""
    from pipeline.schema import metadata_of

    return [field.name for field in metadata_of(memory.bank.schema)]


def _record(given: Given, names: set[str]) -> dict[str, Any]:
    try:
        whole = json.dumps(dict(given.metadata), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise Refusal(f"the metadata of the document {given.doc_id!r} is not JSON: {error}") from None
    columns = {name: given.metadata.get(name) for name in names - {META}}
    return {"text": given.text, "doc_id": given.doc_id, META: whole, **columns}
