"""JSONL files and whole text files become documents and rejections, in file order, one record in memory at a time."""

from __future__ import annotations

import json
import math
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.corpus.corpus import InputFile, Located, Span
from pipeline.corpus.documents import MADE, ColumnRoles, Document, Rejected, Unfit, judge, kind_of, reject
from pipeline.corpus.ids import id_fault, id_text, is_unicode
from pipeline.corpus.misnamed import LOOKED_AT, no_lines, wide
from pipeline.corpus.partitions import partitions
from pipeline.corpus.unpack import TORN, open_unpacked

MAX_RECORD_BYTES = 1 << 30  # one line or one text file; longer ones are rejected, so that memory stays bounded
PEEK_LINES = 1000  # how far to look for an id in a JSONL file


UNEXPECTED_ID = (
    f"an id stands here, and none of the file's first {PEEK_LINES} records has one: give --id-column id if all should, "
    "--id-column '' if ids are to be made of the texts"
)


def read_jsonl(span: Span, columns: ColumnRoles) -> Iterator[Located]:
    """One record a line; blank lines are none. A torn file keeps its whole lines, and what is left is one rejection.

    A file that holds no lines at all is one rejection.
    """
    id_column, outside = _id_column(span.file, columns), partitions(span.file)
    length = math.inf if span.length is None else span.length
    with open_unpacked(span.file) as stream:
        fault = None if span.first else _misnamed(stream, span.file)  # nothing of such a file is read further down
        if fault is not None:
            yield Located(reject(span.file.name, MADE, fault, None), 1, 0)
            return
        number, offset = span.first, span.offset
        for line, size in _lines(stream, offset, length):
            number, offset = number + 1, offset + size
            source = f"{span.file.name}:{number}"
            if line.__class__ is Unfit:
                yield Located(reject(source, MADE, line.reason, None), number, offset)
            elif not line.isspace():
                yield Located(_judge_line(line, source, columns, id_column, outside), number, offset)


def read_text(file: InputFile, columns: ColumnRoles) -> Document | Rejected:
    """A whole file is one document; its id is its name. Newlines stay as they are, a byte order mark goes."""
    read = bytearray()
    try:
        with open_unpacked(file) as stream:
            while len(read) <= MAX_RECORD_BYTES and (piece := stream.read(1 << 20)):
                read += piece
        fault = wide(bytes(read[:LOOKED_AT]))
        if fault is not None:
            return reject(file.name, file.name, fault, bytes(read[:400]))
        text = read.decode("utf-8-sig")
    except TORN as error:
        return reject(file.name, file.name, f"the file is torn: {error}", bytes(read[:400]))
    except UnicodeDecodeError as error:
        return reject(file.name, file.name, f"text is not valid UTF-8 at byte {error.start}", bytes(read[:400]))
    if len(read) > MAX_RECORD_BYTES:
        return reject(file.name, file.name, f"more than {MAX_RECORD_BYTES} bytes: split the file", text)
    outside = partitions(file)
    return judge(text, file.name, {field.name: outside.get(field.name) for field in columns.metadata_fields}, file.name)


def _misnamed(stream: BinaryIO, file: InputFile) -> str | None:
    """Why the file is none of lines, if its first bytes say so; the stream stays at its start."""
    try:
        if file.compression:  # goes forward only
            with open_unpacked(file) as another:
                return no_lines(another.read(LOOKED_AT))
        start = stream.read(LOOKED_AT)
        stream.seek(0)
        return no_lines(start)
    except TORN:
        return None


def objects(file: InputFile, limit: int | None) -> Iterator[dict[str, Any]]:
    """The objects among the first `limit` lines of a JSONL file; what is malformed or torn is passed over."""
    with open_unpacked(file) as stream:
        for line, _ in _lines(stream, 0, math.inf, limit):
            found = _parsed(line)
            if isinstance(found, dict):
                yield found


def unusable_ids(file: InputFile) -> str | None:
    """What is wrong with the ids of a JSONL file's first records, if none is usable; None if they have none."""
    found = None
    for record in objects(file, PEEK_LINES):
        raw_id = record.get("id")
        if id_text(raw_id) is not None:
            return None
        found = found or (None if raw_id is None else id_fault(raw_id))
    return found


def _id_column(file: InputFile, columns: ColumnRoles) -> str | None:
    """The id column named, else `id` where one of the file's first records holds a usable one, else None."""
    if columns.id is not None:
        return columns.id or None
    return "id" if any(id_text(found.get("id")) is not None for found in objects(file, PEEK_LINES)) else None


def _lines(
    stream: BinaryIO, offset: int, length: float, limit: int | None = None
) -> Iterator[tuple[bytes | Unfit, int]]:
    """(line, bytes) from `offset` until `length` bytes were read; a torn file's last line is an `Unfit` of one byte."""
    done = count = 0
    try:
        stream.seek(offset)
    except TORN as error:
        yield Unfit(f"the file is torn before byte {offset}: {error}"), 1
        return
    while done < length and (limit is None or count < limit):
        try:
            line = stream.readline(MAX_RECORD_BYTES)
            size = len(line) + (_skip_line(stream) if len(line) == MAX_RECORD_BYTES and line[-1:] != b"\n" else 0)
        except TORN as error:
            yield Unfit(f"the file is torn here: {error}"), 1
            return
        if not line:
            return
        if size > len(line):
            line = Unfit(f"line of {size} bytes: wanted {MAX_RECORD_BYTES} at most")
        elif offset + done == 0:
            line = line.removeprefix(BOM_UTF8) or b"\n"
        yield line, size
        done, count = done + size, count + 1


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while rest := stream.readline(1 << 20):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _judge_line(
    line: bytes, source: str, columns: ColumnRoles, id_column: str | None, outside: dict[str, str | None]
) -> Document | Rejected:
    """`outside`: columns that the file's folders name, where the record has none of that name."""
    found = _parsed(line)
    if isinstance(found, Unfit):
        return reject(source, MADE, found.reason, line)
    if not isinstance(found, dict):
        return reject(source, MADE, f"line is {kind_of(found)}: wanted an object", line)
    raw_id = MADE if id_column is None else found.get(id_column)
    if id_column is None and columns.id is None and found.get("id") is not None:
        return reject(source, found["id"], UNEXPECTED_ID, line)
    if columns.text not in found:
        return reject(source, raw_id, f"column {columns.text!r} is missing; found {', '.join(found) or 'none'}", line)
    metadata = {f.name: fitted(found.get(f.name, outside.get(f.name)), f.type) for f in columns.metadata_fields}
    return judge(found[columns.text], raw_id, metadata, source)


def _parsed(line: bytes | Unfit) -> Any:
    """The line's JSON value, or `Unfit`."""
    if isinstance(line, Unfit):
        return line
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return Unfit(f"line is not valid UTF-8 at byte {error.start}")
    except RecursionError:
        return Unfit("line is nested too deeply")
    except ValueError as error:
        return Unfit(f"malformed JSON: {error}")


def fitted(value: Any, wanted: pa.DataType) -> Any:
    """A JSON value as a metadata column of one type holds it, or `Unfit`."""
    kind = value.__class__
    if value is None:
        return None
    if kind is str:
        fits = pa.types.is_string(wanted) and is_unicode(value)
    elif kind is bool:
        fits = pa.types.is_boolean(wanted)
    elif kind is int and pa.types.is_integer(wanted):
        fits = -(1 << (wanted.bit_width - 1)) <= value < 1 << (wanted.bit_width - 1)
    else:
        fits = kind in (int, float) and pa.types.is_floating(wanted) and abs(value) < 1 << 1023
        value = float(value) if fits else value
    return value if fits else Unfit(f"{kind_of(value)} does not fit {wanted}")
