"""Parquet files and Arrow files (what `datasets` writes) become documents and rejections, a few megabytes at a time.

A row that is no document is rejected alone. What cannot be read is rejected as one: a file without a usable text
column, the rest of a row group after a damaged page, a file that is no Parquet at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, repeat
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.refusal import Refusal
from pipeline.corpus.corpus import PARQUET, InputFile, Located, Span
from pipeline.corpus.documents import MADE, ColumnRoles, Rejected, Unfit, judge, reject
from pipeline.corpus.ids import TAKEN, id_texts, is_id_type
from pipeline.corpus.partitions import partitions
from pipeline.storage import storage

BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 4096


def read_table(span: Span, columns: ColumnRoles) -> Iterator[Located]:
    """The rows of a span; rows count from 0."""
    name = span.file.name
    try:
        with _opened(span.file) as table:
            fault = _columns_fault(table.schema_arrow, columns)
            if fault is not None:
                yield Located(reject(name, MADE, fault, None), 1, 0)
                return
            wanted = _Wanted(table.schema_arrow, columns, span.file)
            for first, found in _batches(table, span, wanted.names):
                if isinstance(found, DamagedError):
                    yield Located(found.rejected(name, first), found.end, 0)
                else:
                    yield from wanted.judged(found, first)
    except DamagedError as error:
        yield Located(reject(name, MADE, error.reason, None), 1, 0)


def table_schema(file: InputFile) -> pa.Schema | None:
    """The Arrow schema of a table; None if the file is damaged."""
    try:
        with _opened(file) as table:
            return table.schema_arrow
    except DamagedError:
        return None


class DamagedError(Refusal):
    """A file, or the rows up to `end` of it, that is not what its name says."""

    def __init__(self, reason: str, end: int = 0):
        super().__init__(reason)
        self.reason, self.end = reason, end

    def rejected(self, name: str, first: int) -> Rejected:
        return reject(f"{name}:{first}-{self.end - 1}", MADE, self.reason, None)


@contextmanager
def _opened(file: InputFile) -> Iterator[pq.ParquetFile | _ArrowFile]:
    if storage.is_remote(file.uri):
        filesystem, path = storage.resolve(file.uri)
        source = filesystem.open_input_file(path)
    else:
        source = pa.memory_map(file.uri) if file.format != PARQUET and file.size else pa.OSFile(file.uri)
    with source:
        with damage(f"not a readable {file.format} file"):
            table = _parquet(source, file) if file.format == PARQUET else _ArrowFile(source)
        yield table


def _parquet(source: pa.NativeFile, file: InputFile) -> pq.ParquetFile:
    """Without pre_buffer: that would hold a whole row group, which may be the whole file (206 MB against 12)."""
    buffer = (8 if storage.is_remote(file.uri) else 1) << 20
    return pq.ParquetFile(source, buffer_size=buffer, pre_buffer=False, page_checksum_verification=True)


@contextmanager
def damage(what: str, end: int = 0) -> Iterator[None]:
    """DamagedError for what pyarrow says of damaged data: ArrowInvalid, or OSError without an errno. Others pass."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DamagedError(f"{what}: {error}", end) from error
    except OSError as error:
        if error.errno is not None or "AWS Error" in str(error):
            raise
        raise DamagedError(f"{what}: {error}", end) from error


class _ArrowFile:
    """An Arrow IPC file or stream, with as much of ParquetFile's face as is needed here."""

    def __init__(self, source: pa.NativeFile):
        self._source = source
        self._is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        self._reader = pa.ipc.open_file(source) if self._is_file else pa.ipc.open_stream(source)
        self.schema_arrow = self._reader.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        if self._is_file:
            yield from (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))
        else:
            yield from self._reader


def _batches(table, span: Span, names: list[str]) -> Iterator[tuple[int, pa.RecordBatch | DamagedError]]:
    """(first row, batch) for the rows of the span, or what became of them."""
    end = None if span.count is None else span.first + span.count
    groups = _arrow_batches(table, names) if isinstance(table, _ArrowFile) else _row_groups(table, span, names)
    for row, found in groups:
        rows = 1 if isinstance(found, DamagedError) else found.num_rows
        if end is not None and row >= end:
            return
        if isinstance(found, DamagedError):
            yield row, found
        elif row + rows > span.first:
            skip = max(0, span.first - row)
            keep = rows - skip if end is None else min(rows, end - row) - skip
            yield row + skip, found.slice(skip, keep)


def _row_groups(
    table: pq.ParquetFile, span: Span, names: list[str]
) -> Iterator[tuple[int, pa.RecordBatch | DamagedError]]:
    """Row groups that lie before the span are not read."""
    row = 0
    for i in range(table.metadata.num_row_groups):
        group = table.metadata.row_group(i)
        end = row + group.num_rows
        if end > span.first:
            yield from _until_damage(
                table.iter_batches(_batch_rows(group, names), [i], names, use_threads=False), row, end
            )
        row = end


def _batch_rows(group: pq.RowGroupMetaData, names: list[str]) -> int:
    """So many rows as make about BATCH_BYTES of the columns wanted."""
    columns = [group.column(i) for i in range(group.num_columns)]
    size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.partition(".")[0] in names)
    return max(1, min(MAX_BATCH_ROWS, group.num_rows * BATCH_BYTES // max(1, size)))


def _arrow_batches(table: _ArrowFile, names: list[str]) -> Iterator[tuple[int, pa.RecordBatch | DamagedError]]:
    for row, found in _until_damage(table.batches(), 0, None):
        if isinstance(found, DamagedError):
            yield row, found
            continue
        rows = max(1, min(MAX_BATCH_ROWS, found.num_rows * BATCH_BYTES // max(1, found.nbytes)))
        for start in range(0, found.num_rows, rows):
            yield row + start, found.slice(start, rows).select(names)


def _until_damage(batches: Iterator[pa.RecordBatch], row: int, end: int | None):
    """The batches, and the damage that ends them if there is any."""
    while True:
        try:
            with damage("damaged data"):
                batch = next(batches, None)
        except DamagedError as error:
            yield row, DamagedError(error.reason, row + 1 if end is None else end)
            return
        if batch is None:
            return
        yield row, batch
        row += batch.num_rows


def _columns_fault(schema: pa.Schema, columns: ColumnRoles) -> str | None:
    """Why no row of a table can be read, if that is so."""
    found = ", ".join(schema.names) or "none"
    for name in filter(None, (columns.text, columns.id, *columns.metadata)):
        if schema.names.count(name) > 1:
            return f"column {name!r} stands there {schema.names.count(name)} times; found {found}"
        if name not in schema.names and name not in columns.metadata:
            return f"column {name!r} is missing; found {found}"
    if not _is_string(schema.field(columns.text).type):
        return f"column {columns.text!r} is {schema.field(columns.text).type}: wanted a string"
    return id_column_fault(schema, columns)


def id_column_fault(schema: pa.Schema, columns: ColumnRoles) -> str | None:
    """Why a table's id column, the one named or an `id` that nobody named, gives no ids."""
    name = id_column(schema, columns)
    if name is None or name not in schema.names:
        return None
    if schema.names.count(name) > 1:
        return f"column {name!r} stands there {schema.names.count(name)} times"
    kind = schema.field(name).type
    return None if is_id_type(kind) else f"column {name!r} is {kind}, which has no exact text: wanted {TAKEN}"


def id_column(schema: pa.Schema, columns: ColumnRoles) -> str | None:
    """The column that ids are read from. One named `id` without any value is none, unless it was asked for."""
    if columns.id is not None:
        return columns.id or None
    there = [field.type for field in schema if field.name == "id"]
    return "id" if any(not pa.types.is_null(kind) for kind in there) else None


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


class _Wanted:
    """The columns to read of one file, and how a batch of them is judged."""

    def __init__(self, schema: pa.Schema, columns: ColumnRoles, file: InputFile):
        self.columns, self.source = columns, file.name
        self.id = id_column(schema, columns)
        self.metadata = [field for field in columns.metadata_fields if field.name in schema.names]
        outside = partitions(file)
        self.absent = {f.name: outside.get(f.name) for f in columns.metadata_fields if f.name not in schema.names}
        self.names = list(
            dict.fromkeys([columns.text, *([self.id] if self.id else []), *(f.name for f in self.metadata)])
        )

    def judged(self, batch: pa.RecordBatch, first: int) -> Iterator[Located]:
        texts = _strings(batch.column(self.columns.text))
        ids = repeat(MADE) if self.id is None else _ids(batch.column(self.id))
        values = [_fitted(batch.column(field.name), field.type) for field in self.metadata]
        rows = zip(*values, strict=True) if values else repeat(())
        names = [field.name for field in self.metadata]
        for row, text, raw_id, row_values in zip(count(first), texts, ids, rows, strict=False):
            metadata = dict(zip(names, row_values, strict=True), **self.absent) if self.columns.metadata_fields else {}
            yield Located(judge(text, raw_id, metadata, f"{self.source}:{row}"), row + 1, 0)


def _ids(array: pa.Array) -> list[Any]:
    return _strings(array) if _is_string(array.type) else id_texts(array)


def _strings(array: pa.Array) -> list[Any]:
    """Python values; a string that is not UTF-8 stays bytes."""
    try:
        return array.to_pylist()
    except UnicodeDecodeError:
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        return [_decoded(value) for value in array.cast(pa.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | bytes | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _fitted(array: pa.Array, wanted: pa.DataType) -> list[Any]:
    """The metadata values as `wanted`; one that does not fit is `Unfit`."""
    try:
        return array.cast(wanted, safe=not pa.types.is_timestamp(wanted)).to_pylist()  # nanoseconds are cut off
    except (pa.ArrowInvalid, UnicodeDecodeError):
        if len(array) > 1:
            return [value for i in range(len(array)) for value in _fitted(array.slice(i, 1), wanted)]
        return [Unfit(f"value does not fit {wanted}")]
