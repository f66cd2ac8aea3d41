"""A work unit's rows become Parquet files that no reader sees until a commit names them.

A file is named by its content, so two writers of one unit cannot overwrite each other's bytes, and is at most 128 MB:
rows are written in row groups of about 16 MB, and a file ends where the next group might pass the limit. Codes, scales
and embeddings are stored plain (they are noise to a compressor); text, ids and hashes get zstd. Pages carry checksums.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.schema import ADDED, EMBEDDING, INCOMPRESSIBLE, REPEATING, UNIT, indexed, metadata_of
from pipeline.storage.folder import Folder

MAX_FILE_BYTES = 128_000_000
FOOTER_BYTES = 1_000_000  # room left for the file's own footer
GROUP_BYTES = 16_000_000
LONGEST_INDEXED_TEXT = 256  # characters: the log holds two of these a file and column
UNIT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
KEPT = "kept"  # label of a file with rows of several units
REMEMBERED = "remembered"  # unit of rows that no encode job brought, and label of their files
NAME = re.compile(r"part-(.+)-\d{4,}-[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A Parquet file of the bank that no commit may have named yet."""

    path: str  # relative to the bank
    size: int  # bytes
    num_records: int
    stats: str  # Delta's per-file statistics, JSON


class UnitWriter:
    """Writes rows of one bank; made once a worker. `schema` and `embedding_width` are the bank's."""

    def __init__(self, folder: Folder, schema: pa.Schema, embedding_width: int):
        self.folder, self.schema, self.embedding_width = folder, schema, embedding_width

    def write(self, unit_id: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> list[WrittenFile]:
        """Rows of one unit, in order, to as many files as they need (none for no rows).

        Raises ValueError for rows that are not this bank's: other columns, another unit, another embedding width.
        """
        require_unit_id(unit_id)
        batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
        return list(self.write_files(unit_id, (self._checked(batch, unit_id) for batch in batches)))

    def write_files(self, label: str, batches: Iterable[pa.RecordBatch]) -> Iterator[WrittenFile]:
        """Batches of the bank's own schema to files `part-<label>-<n>-<content hash>.parquet`, unchecked."""
        for number, content in enumerate(parquet_files(self.schema, batches)):
            path = f"part-{label}-{number:04d}-{_content_hash(content)}.parquet"
            self.folder.put(path, content)
            footer = pq.read_metadata(pa.BufferReader(content))
            yield WrittenFile(path, content.size, footer.num_rows, _delta_stats(footer, indexed(self.schema)))

    def _checked(self, batch: pa.RecordBatch, unit_id: str) -> pa.RecordBatch:
        rows = as_schema(batch, self.schema, f"unit {unit_id}")
        others = set(rows.column(UNIT).unique().to_pylist()) - {unit_id}
        if others:
            raise ValueError(f"rows given as unit {unit_id} say they are of unit {min(others)}: write each unit alone")
        widths = set(pc.list_value_length(rows.column(EMBEDDING)).unique().to_pylist()) - {self.embedding_width}
        if widths:
            raise ValueError(
                f"unit {unit_id}: an embedding has {min(widths)} values, the bank's {self.embedding_width}"
            )
        return rows


def require_unit_id(unit_id: str) -> None:
    """A unit's id is part of file names and of the log: letters, digits, dot, dash, underscore."""
    if not UNIT_ID.fullmatch(unit_id):
        raise ValueError(f"unit id {unit_id!r} can't be part of a file name: use letters, digits, '.', '_' and '-'")


def unit_of(path: str) -> str | None:
    """The unit, or the other label, whose file this is by its name; None for a file of a compaction."""
    found = NAME.fullmatch(path)
    return found and found[1]


def as_schema(batch: pa.RecordBatch, schema: pa.Schema, who: str) -> pa.RecordBatch:
    """The batch with the bank's columns in the bank's order and types. Raises ValueError where it can't be.

    A bank or a file of before a column was added goes without it, as long as that loses nothing.
    """
    batch = _with_added(batch, schema)
    missing = [name for name in schema.names if name not in batch.schema.names]
    unknown = [name for name in batch.schema.names if name not in schema.names]
    if missing or unknown:
        raise ValueError(f"{who}: the rows lack {missing} and bring {unknown}; the bank's columns are {schema.names}")
    try:
        return batch.select(schema.names).cast(schema)
    except (ValueError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{who}: the rows do not fit the bank's columns: {error}") from error


def _with_added(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    for name in ADDED:
        if name in batch.schema.names and name not in schema.names:
            if batch.column(name).null_count == batch.num_rows:
                batch = batch.drop_columns(name)
        elif name in schema.names and name not in batch.schema.names:
            field = schema.field(name)
            batch = batch.append_column(field, pa.nulls(batch.num_rows, field.type))
    return batch


def parquet_files(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Buffer]:
    """Rows with a bank's columns as whole Parquet files of at most 128 MB, in memory one at a time."""
    sink = writer = None
    for group in _groups(batches):
        if writer is not None and sink.tell() + group.nbytes > MAX_FILE_BYTES - FOOTER_BYTES:
            yield _finished(sink, writer)
            writer = None
        if writer is None:
            sink = pa.BufferOutputStream()
            writer = _writer(sink, schema)
        writer.write_table(group.cast(schema), row_group_size=group.num_rows)
    if writer is not None:
        yield _finished(sink, writer)


def _finished(sink: pa.BufferOutputStream, writer: pq.ParquetWriter) -> pa.Buffer:
    writer.close()
    return sink.getvalue()


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Rows regrouped to about GROUP_BYTES each, whatever sizes they come in."""
    waiting, size = [], 0
    for piece in (piece for batch in batches for piece in _pieces(batch)):
        waiting.append(piece)
        size += piece.nbytes
        if size >= GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Slices of at most about GROUP_BYTES / 4, so that a group is never far over."""
    if batch.num_rows:
        step = max(1, batch.num_rows * (GROUP_BYTES // 4) // max(batch.nbytes, 1))
        yield from (batch.slice(start, step) for start in range(0, batch.num_rows, step))


def _writer(sink: pa.BufferOutputStream, schema: pa.Schema) -> pq.ParquetWriter:
    own = [field.name for field in metadata_of(schema) if not pa.types.is_nested(field.type)]
    return pq.ParquetWriter(
        sink,
        schema,
        compression={
            leaf: "none" if field.name in INCOMPRESSIBLE else "zstd"
            for field in schema
            for leaf in _leaves(field.name, field.type)
        },
        use_dictionary=[*REPEATING, *own],
        write_statistics=list(indexed(schema)),
        write_page_checksum=True,
    )


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """What Parquet calls the columns that a possibly nested Arrow column is stored as."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    return [path]


def _delta_stats(footer: pq.FileMetaData, columns: tuple[str, ...]) -> str:
    """Smallest and largest value and nulls of each column, from the file's own footer."""
    stats = {"numRecords": footer.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    order = {footer.schema.column(index).path: index for index in range(len(footer.schema))}
    for name in columns:
        found = [group.column(order[name]).statistics for group in groups]
        if any(each is None for each in found):
            continue  # Parquet leaves out what is too long to compare
        stats["nullCount"][name] = sum(each.null_count for each in found)
        if all(each.has_min_max for each in found):
            low, high = min(each.min for each in found), max(each.max for each in found)
            if max(_length(low), _length(high)) <= LONGEST_INDEXED_TEXT:
                stats["minValues"][name], stats["maxValues"][name] = low, high
    return json.dumps(stats, default=iso)


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0


def iso(moment: datetime.date) -> str:
    """A date as Delta writes it, or a timestamp with all its microseconds."""
    return moment.isoformat().replace("+00:00", "Z")


def _content_hash(content: pa.Buffer) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
