"""What an encoder does with one chunked unit: memory rows, written to the bank's files, not committed. Knows no Ray.

A document that cannot be encoded is left out alone, with its reason: when encoding raises, the documents at fault are
found by halving. A unit that cannot be written comes back as a Failure, and the rest of the job goes on. What loses the
device (torch.AcceleratorError) is raised: the worker must end, and the ledger finds the document at fault.
"""

from __future__ import annotations

import time
from contextlib import suppress

import pyarrow as pa
import torch
from deltalake.exceptions import DeltaError

from model.checkpoint import load_codec
from model.speed import matmul_rate
from pipeline import schema
from pipeline.bank import Bank
from pipeline.codec_copy import local_codec
from pipeline.commit import Receipt
from pipeline.documents import Rejected, reject
from pipeline.memorise import Memoriser
from pipeline.options import EncodeOptions
from pipeline.outcome import ChunkedUnit, Failure, Outcome, tried
from pipeline.rejected import write_rejected


class EncodeWork:
    """Encodes chunked units with one codec and writes their files.

    `ledger` is pipeline/attempts.py's, called as it is.
    """

    def __init__(self, options: EncodeOptions, ledger, *, worker: str):
        self.ledger, self.worker = ledger, worker
        if not torch.cuda.is_available():
            torch.set_num_threads(options.threads)  # Ray sets it to the actor's num_cpus, which may be another number
        codec = load_codec(local_codec(options.codec), backbone_name=options.backbone, exact=options.exact)
        self.memoriser = Memoriser(
            codec,
            verify=options.verify,
            refine=options.refine,
            batch_size=options.batch_size,
            on_batch=ledger.encoded,
        )
        self.bank = Bank.open(options.bank)
        self.writer = self.bank.writer()
        self.limit = matmul_rate(codec.backbone.device, codec.backbone.dtype)

    def encode(self, unit: ChunkedUnit | Failure) -> Outcome:
        """The unit's files are written, not committed; its rejected documents are listed beside the bank."""
        if isinstance(unit, Failure):
            return Outcome(failure=unit, worker=self.worker, started=time.time())
        if (earlier := self.ledger.outcome(unit.unit_id)) is not None:
            return earlier  # of a worker that died before Ray had noted that the unit was done
        if self._is_committed(unit.unit_id):
            return Outcome(Receipt(unit.unit_id), worker=self.worker, started=time.time(), elsewhere=True)
        started, start = time.time(), time.perf_counter()
        rows, rejected = self._rows(unit)
        made = tried(unit.unit_id, lambda: self._write(unit, rows, rejected))
        numbers = self.memoriser.take_numbers() | {"seconds": time.perf_counter() - start, "limit": self.limit}
        done = {"failure": made} if isinstance(made, Failure) else {"receipt": made}
        outcome = Outcome(**done, worker=self.worker, started=started, numbers=numbers)
        self.ledger.finished(unit.unit_id, outcome)
        return outcome

    def _is_committed(self, unit_id: str) -> bool:
        """By another job, since ours was planned. A store that does not answer now is asked again by the commit."""
        with suppress(OSError, DeltaError):
            self.bank.reload()
            return self.bank.is_finished(unit_id)
        return False

    def _rows(self, unit: ChunkedUnit) -> tuple[pa.Table, list[Rejected]]:
        ranges, poison = self.ledger.begin(unit.unit_id, len(unit.starts) - 1)
        rejected = [*unit.rejected]
        rejected += [self._rejection(unit, i, "encoding it ended its worker twice: it is left out") for i in poison]
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
        except torch.AcceleratorError:  # the device is lost to this process: every document after it would fail too
            raise
        except Exception as error:  # whatever one document provokes must not cost the others
            if last - first == 1:
                rejected.append(self._rejection(unit, first, f"encoding it failed: {type(error).__name__}: {error}"))
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

    def _rejection(self, unit: ChunkedUnit, document: int, reason: str) -> Rejected:
        first = unit.chunks.slice(unit.starts[document], 1).to_pylist()[0]
        text = first[schema.TEXT] or self.memoriser.codec.tokenizer.decode(first[schema.TOKEN_IDS])
        return reject(first[schema.SOURCE], first[schema.DOC_ID], reason, text)

    def _empty(self, unit: ChunkedUnit) -> pa.Table:
        metadata = tuple(f for f in unit.chunks.schema if f.name not in schema.RESERVED)
        return schema.row_schema(metadata).empty_table()
