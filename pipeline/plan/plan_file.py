"""A plan on disk: one Parquet row a unit, in input order, with the ids and hashes of its documents.

It is written whole or not at all, and a file without its footer, or whose footer counts other units, is no plan. A pass
over the units reads a row group at a time, of a plan on an object store from a local copy: a request each would be one
for every few hundred units.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.corpus import InputFile, Span
from pipeline.corpus.tables import damage
from pipeline.plan.units import Conflict, Unit
from pipeline.storage import storage

_HASH = pa.binary(16)
_FILE = {"uri": pa.string(), "name": pa.string(), "format": pa.string(), "compression": pa.string()}
_RANGE = {"first": pa.int64(), "count": pa.int64(), "offset": pa.int64(), "length": pa.int64()}
_TIMES = {"mtime_ns": pa.int64(), "ctime_ns": pa.int64()}
_SPAN = pa.struct({**_FILE, "size": pa.int64(), **_TIMES, "spool": pa.string(), **_RANGE})
_SCHEMA = pa.schema(
    {
        "unit_id": _HASH,
        "chunks": pa.int64(),
        "documents": pa.int64(),
        "bytes": pa.int64(),
        "rejected": pa.int64(),
        "spans": pa.list_(_SPAN),
        "duplicates": pa.list_(pa.int32()),
        "conflicts": pa.list_(pa.struct({"ordinal": pa.int32(), "first": pa.string()})),
        "doc_ids": pa.list_(pa.string()),
        "doc_hashes": pa.list_(_HASH),
    }
)
_DOCUMENTS = ("doc_ids", "doc_hashes")
_UNIT = [name for name in _SCHEMA.names if name not in _DOCUMENTS]
_COUNTS, _FIELDS = b"nextmem.counts", b"nextmem.fields"
_GROUP_UNITS, _GROUP_DOCUMENTS = 256, 1 << 16


class Planned(NamedTuple):
    """A unit and the ids and hashes (16 bytes each) of its documents, in order."""

    unit: Unit
    doc_ids: list[str]
    doc_hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Counts:
    """What planning saw. Every record is a document, a duplicate or rejected."""

    files: int = 0  # read
    documents: int = 0  # to be in the bank
    duplicates: int = 0  # the same id and text again
    rejected: int = 0
    bytes: int = 0  # UTF-8, of the documents' texts
    chunks: int = 0  # estimated
    units: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)  # files in folders that no reader claims, by ending


class PlanWriter:
    """Takes units in input order, holding one row group of them."""

    def __init__(self, file, metadata_fields: tuple[pa.Field, ...]):
        self._parquet = pq.ParquetWriter(file, _SCHEMA, compression="zstd", write_page_checksum=True)
        self._fields = metadata_fields
        self._rows: list[dict] = []
        self._documents = 0

    def add(self, planned: Planned) -> None:
        self._rows.append(_row(planned))
        self._documents += len(planned.doc_ids)
        if len(self._rows) >= _GROUP_UNITS or self._documents >= _GROUP_DOCUMENTS:
            self._flush()

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(self, *exception) -> None:
        self._parquet.close()

    def finish(self, counts: Counts) -> None:
        """Without this the file is no whole plan."""
        self._flush()
        schema = pa.schema(self._fields).serialize().to_pybytes()
        self._parquet.add_key_value_metadata({_COUNTS: json.dumps(asdict(counts)), _FIELDS: schema.hex()})

    def _flush(self) -> None:
        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, _SCHEMA))
        self._rows, self._documents = [], 0


class PlanFile:
    """A stored plan. Reads are lazy and a row group at a time."""

    def __init__(self, uri: str):
        """FileNotFoundError if there is none, ValueError if it is torn."""
        self._uri = uri
        with ExitStack() as stack:
            self._path = stack.enter_context(storage.local_copy(uri))
            self._copy = stack.pop_all()  # the copy goes when the plan does
        with damage(f"{uri} is no whole plan"), self._open() as parquet:
            metadata = parquet.metadata.metadata
            rows, self.num_groups = parquet.metadata.num_rows, parquet.metadata.num_row_groups
        if metadata is None or _COUNTS not in metadata or _FIELDS not in metadata:
            raise ValueError(f"{uri} is no whole plan: it was not finished")
        self.counts = Counts(**json.loads(metadata[_COUNTS]))
        if rows != self.counts.units:
            raise ValueError(f"{uri} is no whole plan: it has {rows} units, wanted {self.counts.units}")
        self.fields: tuple[pa.Field, ...] = tuple(
            pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(metadata[_FIELDS].decode())))
        )

    def sizes(self, group: int) -> dict[str, list]:
        """Of a row group's units, in order: `unit_id`, `chunks`, `documents`, `rejected`."""
        sizes = self._group(group, ["unit_id", "chunks", "documents", "rejected"]).to_pydict()
        return sizes | {"unit_id": [unit_id.hex() for unit_id in sizes["unit_id"]]}

    def units(self, group: int, places: list[int], with_documents: bool) -> Iterator[Planned]:
        """The units at these places of a row group; without documents, ids and hashes are left unread and are empty."""
        table = self._group(group, _UNIT + (list(_DOCUMENTS) if with_documents else []))
        for place in places:
            yield _planned(table.slice(place, 1).to_pylist()[0])

    def doc_ids(self, group: int) -> list[list[str]]:
        """Of each unit of a row group, in order."""
        return self._group(group, ["doc_ids"])["doc_ids"].to_pylist()

    def _group(self, group: int, columns: list[str]) -> pa.Table:
        with damage(f"{self._uri} is damaged: delete it, and the next run plans anew"), self._open() as parquet:
            return parquet.read_row_group(group, columns=columns, use_threads=False)

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._path, page_checksum_verification=True)


def _row(planned: Planned) -> dict:
    unit = planned.unit
    return {
        "unit_id": bytes.fromhex(unit.unit_id),
        "chunks": unit.chunks,
        "documents": unit.documents,
        "bytes": unit.bytes,
        "rejected": unit.rejected,
        "spans": [_span_row(span) for span in unit.spans],
        "duplicates": unit.duplicates,
        "conflicts": [asdict(conflict) for conflict in unit.conflicts],
        "doc_ids": planned.doc_ids,
        "doc_hashes": planned.doc_hashes,
    }


def _span_row(span: Span) -> dict:
    of_file = {field.name: getattr(span.file, field.name) for field in fields(InputFile)}
    return of_file | {name: getattr(span, name) for name in _RANGE}


def _planned(row: dict) -> Planned:
    doc_ids, doc_hashes = row.pop("doc_ids", []), row.pop("doc_hashes", [])
    row["unit_id"] = row["unit_id"].hex()
    row["spans"] = tuple(_span(span) for span in row["spans"])
    row["duplicates"] = tuple(row["duplicates"])
    row["conflicts"] = tuple(Conflict(**conflict) for conflict in row["conflicts"])
    return Planned(Unit(**row), doc_ids, doc_hashes)


def _span(row: dict) -> Span:
    within = {name: row.pop(name) for name in _RANGE}
    return Span(InputFile(**row), **within)
