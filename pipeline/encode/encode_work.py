"""What an encoder does with one chunked unit: memory rows, written to the bank's files, not committed. Knows no Ray.

When encoding raises, the documents that fail alone are found by halving. One is left out only once it is proven to be
at fault (blame.py); until then, and where the machine is at fault, the unit comes back as a Failure, which
another process tries again. What loses the device (torch.AcceleratorError) is raised: the worker must end.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import torch
from deltalake.exceptions import DeltaError

from model.codec_io import load_codec
from model.finite import NotFiniteError
from model.speed import matmul_rate
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.commit import Receipt
from pipeline.bank.rejected import write_rejected
from pipeline.corpus.documents import ENCODER, Rejected, reject
from pipeline.encode.blame import Fault, MachineFaultError, described, is_machines, require_passed, require_unlike
from pipeline.encode.memorise import Memoriser
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import ChunkedUnit, Failure, Outcome, tried
from pipeline.encode.spot_check import SpotCheck

FAILURES_BORNE = 2  # units in a row that a process fails before it ends: something in it, or under it, may be broken


class WornOutError(RuntimeError):
    """This process has failed at this unit, or at too many in a row: another one is to do it."""


@dataclass(slots=True)
class _Attempt:
    """At a unit, by this process. Tables stand at the document that they begin with."""

    tables: dict[int, pa.Table] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    passed: int = 0  # documents


class EncodeWork:
    """Encodes chunked units with one codec and writes their files.

    `ledger` is pipeline/encode/ledger.py's, called as it is.
    """

    def __init__(self, options: EncodeOptions, ledger, *, worker: str):
        self.ledger, self.worker = ledger, worker
        self.process, self.failures = uuid.uuid4().hex, 0
        if not torch.cuda.is_available():
            torch.set_num_threads(options.threads)  # Ray sets it to the actor's num_cpus, which may be another number
        codec = load_codec(local_codec(options.codec), backbone_name=options.backbone, verifying=options.verifying)
        self.memoriser = Memoriser(
            codec,
            verify=options.verify,
            refine=options.refine,
            batch_size=options.batch_size,
            on_batch=ledger.encoded,
        )
        self.bank = Bank.open(options.bank)
        self.writer = self.bank.writer()
        self.spot_check = SpotCheck(codec, -(-options.spot_check_rows // options.actors))
        self.limit = matmul_rate(codec.backbone.device, codec.backbone.dtype)

    def encode(self, unit: ChunkedUnit | Failure) -> Outcome:
        """The unit's files are written, not committed; its rejected documents are listed beside the bank."""
        if isinstance(unit, Failure):
            return Outcome(failure=unit, worker=self.worker, started=time.time())
        if (earlier := self.ledger.outcome(unit.unit_id)) is not None:
            return earlier  # of a worker that died before Ray had noted that the unit was done
        if self._is_committed(unit.unit_id):
            return Outcome(Receipt(unit.unit_id), worker=self.worker, started=time.time(), elsewhere=True)
        if self.failures >= FAILURES_BORNE or self.ledger.has_failed(unit.unit_id, self.process):
            raise WornOutError(f"it failed at unit {unit.unit_id}, or at {self.failures} in a row")
        started, start = time.time(), time.perf_counter()
        made = self._done(unit)
        numbers = self.memoriser.take_numbers() | self.spot_check.take_numbers()
        numbers |= {"seconds": time.perf_counter() - start, "limit": self.limit}
        done = {"failure": made} if isinstance(made, Failure) else {"receipt": made}
        outcome = Outcome(**done, worker=self.worker, started=started, numbers=numbers)
        self.ledger.finished(unit.unit_id, outcome)
        return outcome

    def _done(self, unit: ChunkedUnit) -> Receipt | Failure:
        try:
            rows, rejected = self._rows(unit)
            self.spot_check.look(rows)
        except MachineFaultError as error:
            failure = Failure(unit.unit_id, str(error), error.fatal, error.lasting)
        except NotFiniteError as error:  # of a draft: it would end every other unit alike
            failure = Failure(unit.unit_id, str(error), fatal=True)
        else:
            self.failures = 0
            return tried(unit.unit_id, lambda: self._write(unit, rows, rejected))
        self.failures += 1
        self.ledger.failed(unit.unit_id, self.process)
        return failure

    def _is_committed(self, unit_id: str) -> bool:
        """By another job, since ours was planned. A store that does not answer now is asked again by the commit."""
        with suppress(OSError, DeltaError):
            self.bank.reload()
            return self.bank.is_finished(unit_id)
        return False

    def _rows(self, unit: ChunkedUnit) -> tuple[pa.Table, list[Rejected]]:
        """Raises MachineFaultError where documents fail and none of them is proven to be at fault."""
        ranges, killers = self.ledger.begin(unit.unit_id, len(unit.starts) - 1)
        attempt = _Attempt()
        for first, last in ranges:
            self.ledger.trying(unit.unit_id, first, last)
            self._range(unit, first, last, attempt)
        require_passed(attempt.faults, len(killers), attempt.passed)
        rejected = [*unit.rejected, *self._proven(unit, attempt.faults)]
        rejected += [self._rejection(unit, i, "encoding it ended its worker twice: it is left out") for i in killers]
        tables = [table for _, table in sorted(attempt.tables.items())]
        return pa.concat_tables([self._empty(unit), *tables]), rejected

    def _range(self, unit: ChunkedUnit, first: int, last: int, attempt: _Attempt) -> None:
        """Rows of documents [first, last); where encoding raises, of each half, down to the documents that fail."""
        begin, end = unit.starts[first], unit.starts[last]
        if begin == end:
            return
        try:
            attempt.tables[first] = self.memoriser.memorise(unit.chunks.slice(begin, end - begin), unit.unit_id)
        except torch.AcceleratorError:  # the device is lost to this process: every document after it would fail too
            raise
        except Exception as error:  # whatever it is, it is judged: see pipeline/encode/blame.py
            if is_machines(error):
                raise MachineFaultError(described(error), fatal=isinstance(error, ArithmeticError)) from None
            reason = described(error)
        else:
            attempt.passed += last - first
            return
        if last - first == 1:
            attempt.faults.append(self._fault(unit, first, reason))
            require_unlike(attempt.faults)
            return
        middle = (first + last) // 2
        self._range(unit, first, middle, attempt)
        self._range(unit, middle, last, attempt)

    def _proven(self, unit: ChunkedUnit, faults: list[Fault]) -> list[Rejected]:
        """All faults, as rejections. MachineFaultError where one of them has not failed alike in another process."""
        if not faults:
            return []
        proven = self.ledger.failed(unit.unit_id, self.process, {fault.document: fault.kind for fault in faults})
        doubtful = [fault for fault in faults if fault.document not in proven]
        if doubtful:
            named = ", ".join(repr(fault.doc_id) for fault in doubtful)
            raise MachineFaultError(f"{named} failed alone, which is not proof yet: {doubtful[0].error}")
        return [self._rejection(unit, fault.document, f"encoding it failed: {fault.error}") for fault in faults]

    def _fault(self, unit: ChunkedUnit, document: int, error: str) -> Fault:
        first = unit.chunks.slice(unit.starts[document], 1)
        return Fault(document, first[schema.DOC_ID][0].as_py(), first[schema.DOC_HASH][0].as_py(), error)

    def _write(self, unit: ChunkedUnit, rows: pa.Table, rejected: list[Rejected]) -> Receipt:
        files = self.writer.write(unit.unit_id, rows)
        rejections = write_rejected(self.bank.folder, unit.unit_id, rejected)
        return Receipt(
            unit_id=unit.unit_id,
            files=tuple(files),
            documents=len(set(rows[schema.DOC_ID].to_pylist())),
            chunks=rows.num_rows,
            tokens=sum(rows[schema.NUM_TOKENS].to_pylist()),
            rejected=len(rejected),
            rejections=rejections,
            replaces=unit.replaces,
        )

    def _rejection(self, unit: ChunkedUnit, document: int, reason: str) -> Rejected:
        first = unit.chunks.slice(unit.starts[document], 1).to_pylist()[0]
        text = first[schema.TEXT] or self.memoriser.codec.tokenizer.decode(first[schema.TOKEN_IDS])
        return reject(first[schema.SOURCE], first[schema.DOC_ID], reason, text, by=ENCODER)

    def _empty(self, unit: ChunkedUnit) -> pa.Table:
        metadata = tuple(f for f in unit.chunks.schema if f.name not in schema.RESERVED)
        return schema.row_schema(metadata).empty_table()
