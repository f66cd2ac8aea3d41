"""What a worker does with one unit: read and chunk it, or encode it and write its file. Knows no Ray.

A document that cannot be encoded is left out alone, with its reason: when encoding raises, the documents at fault are
found by halving. A unit that cannot be read or written comes back as a Failure, and the rest of the job goes on.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import torch

from model.backbone import load_tokenizer
from model.checkpoint import load_codec, read_settings
from model.speed import matmul_rate
from pipeline import schema
from pipeline.bank import Bank
from pipeline.chunk import chunk_documents
from pipeline.commit import Receipt
from pipeline.documents import Document, Rejected
from pipeline.memorise import Memoriser
from pipeline.options import EncodeOptions
from pipeline.rejected import write_rejected
from pipeline.units import ChangedInputError, Unit, read_unit

TRIES = 3  # of reading or writing a unit, before it is a failure
WAIT_SECONDS = 0.5
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}  # every other unit would fail alike


@dataclass(frozen=True, slots=True)
class ChunkedUnit:
    """A unit's chunk table. `starts`: the row at which each document begins, and one past the last."""

    unit_id: str
    replaces: tuple[str, ...]
    chunks: pa.Table
    starts: tuple[int, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that could not be done. `fatal`: neither could any other (disk full, no permission)."""

    unit_id: str
    reason: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker hands the driver for a unit: a receipt to commit, or a failure to report."""

    receipt: Receipt | None = None
    failure: Failure | None = None
    worker: str = ""  # the device or actor that did it
    started: float = 0.0  # seconds since the epoch, when its encoding began
    numbers: dict[str, float] = field(default_factory=dict)


class ReadWork:
    """Reads and chunks units with the codec's tokenizer; loads no weights."""

    def __init__(self, options: EncodeOptions):
        settings = read_settings(options.codec)
        self.options, self.chunk_tokens = options, settings["config"]["chunk_tokens"]
        self.tokenizer = load_tokenizer(options.backbone or settings["backbone"])

    def read(self, unit: Unit) -> ChunkedUnit | Failure:
        """The unit's chunk table, or why there is none."""
        return _tried(unit.unit_id, lambda: self._read(unit))

    def _read(self, unit: Unit) -> ChunkedUnit:
        columns, tables, starts, rejected = self.options.columns, [], [0], []
        for item in read_unit(unit, columns):
            if isinstance(item, Rejected):
                rejected.append(item)
                continue
            tables.append(self._chunks(item))
            starts.append(starts[-1] + tables[-1].num_rows)
        chunks = pa.concat_tables(tables) if tables else schema.chunk_schema(columns.fields).empty_table()
        return ChunkedUnit(unit.unit_id, unit.replaces, chunks, tuple(starts), tuple(rejected))

    def _chunks(self, document: Document) -> pa.Table:
        return chunk_documents(
            [document],
            self.tokenizer,
            chunk_tokens=self.chunk_tokens,
            keep_text=self.options.keep_text,
            metadata=self.options.columns.fields,
        )


class EncodeWork:
    """Encodes chunked units with one codec and writes their files.

    `begin` and `trying` and `finished` are the ledger's (pipeline/attempts.py), called as they are.
    """

    def __init__(self, options: EncodeOptions, ledger, *, worker: str):
        self.ledger, self.worker = ledger, worker
        if not torch.cuda.is_available():
            torch.set_num_threads(options.threads)  # Ray sets it to the actor's num_cpus, which may be another number
        codec = load_codec(options.codec, backbone_name=options.backbone, exact=options.exact)
        self.memoriser = Memoriser(codec, verify=options.verify, batch_size=options.batch_size)
        self.bank = Bank.open(options.bank)
        self.writer = self.bank.writer()
        self.limit = matmul_rate(codec.backbone.device, codec.backbone.dtype)

    def encode(self, unit: ChunkedUnit | Failure) -> Outcome:
        """The unit's files are written, not committed; its rejected documents are listed beside the bank."""
        if isinstance(unit, Failure):
            return Outcome(failure=unit, worker=self.worker, started=time.time())
        started, start = time.time(), time.perf_counter()
        rows, rejected = self._rows(unit)
        made = _tried(unit.unit_id, lambda: self._write(unit, rows, rejected))
        self.ledger.finished(unit.unit_id)
        numbers = self.memoriser.take_numbers() | {"seconds": time.perf_counter() - start, "limit": self.limit}
        done = {"failure": made} if isinstance(made, Failure) else {"receipt": made}
        return Outcome(**done, worker=self.worker, started=started, numbers=numbers)

    def _rows(self, unit: ChunkedUnit) -> tuple[pa.Table, list[Rejected]]:
        ranges, poison = self.ledger.begin(unit.unit_id, len(unit.starts) - 1)
        rejected = [*unit.rejected]
        rejected += [_rejection(unit, i, "encoding it ended its worker twice: it is left out") for i in poison]
        tables = [self._empty(unit)]
        for first, last in ranges:
            self.ledger.trying(unit.unit_id, first, last)
            tables += self._range(unit, first, last, rejected)
        return pa.concat_tables(tables), rejected

    def _range(self, unit: ChunkedUnit, first: int, last: int, rejected: list[Rejected]) -> list[pa.Table]:
        """Rows of documents [first, last); where encoding raises, of each half, down to the document at fault."""
        begin, end = unit.starts[first], unit.starts[last]
        if begin == end:
            return []
        try:
            return [self.memoriser.memorise(unit.chunks.slice(begin, end - begin), unit.unit_id)]
        except Exception as error:  # whatever one document provokes must not cost the others
            if last - first == 1:
                rejected.append(_rejection(unit, first, f"encoding it failed: {type(error).__name__}: {error}"))
                return []
        middle = (first + last) // 2
        return [
            *self._range(unit, first, middle, rejected),
            *self._range(unit, middle, last, rejected),
        ]

    def _write(self, unit: ChunkedUnit, rows: pa.Table, rejected: list[Rejected]) -> Receipt:
        files = self.writer.write(unit.unit_id, rows)
        write_rejected(self.bank.folder, unit.unit_id, rejected)
        return Receipt(
            unit_id=unit.unit_id,
            files=tuple(files),
            documents=len(set(rows[schema.DOC_ID].to_pylist())),
            chunks=rows.num_rows,
            tokens=sum(rows[schema.NUM_TOKENS].to_pylist()),
            rejected=len(rejected),
            replaces=unit.replaces,
        )

    def _empty(self, unit: ChunkedUnit) -> pa.Table:
        metadata = tuple(f for f in unit.chunks.schema if f.name not in schema.RESERVED)
        return schema.row_schema(metadata).empty_table()


def _tried(unit_id: str, work: Callable):
    """What `work` returns, or a Failure after TRIES errors of the storage; a full disk is not tried again."""
    for attempt in range(TRIES):
        try:
            return work()
        except ChangedInputError as error:
            return Failure(unit_id, str(error))
        except OSError as error:
            failure = Failure(unit_id, _line(error), fatal=error.errno in FATAL)
            if failure.fatal:
                return failure
            time.sleep(WAIT_SECONDS * 2**attempt)
    return failure


def _line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _rejection(unit: ChunkedUnit, document: int, reason: str) -> Rejected:
    row = unit.chunks.slice(unit.starts[document], 1).to_pylist()[0]
    return Rejected(row[schema.SOURCE], row[schema.DOC_ID], reason, row[schema.TEXT] or "")
