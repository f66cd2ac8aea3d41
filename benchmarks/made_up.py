"""Banks, rows, units and workers of sizes that no machine here could encode: what scheduling and commits cost alone."""

from __future__ import annotations

import datetime
import hashlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray

from model.config import VerifyConfig
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt
from pipeline.bank.identity import CodecIdentity
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode.encode import CHUNKED, OUTCOME, Actors
from pipeline.encode.ledger import RemoteLedger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import Outcome
from pipeline.plan.units import Unit

LATENTS, WIDTH, EMBEDDING_WIDTH = 15, 4096, 1024  # of a bank of an 8B backbone: 36 KB a row
CHUNKS = 2048  # of a unit
IDENTITY = CodecIdentity(
    backbone="made up",
    codec_hash="0" * 32,
    tokenizer_hash="0" * 32,
    num_latents=LATENTS,
    hidden_width=WIDTH,
    quantiser="nf4-standardised-64",
    pooling="mean",
    embedding_width=EMBEDDING_WIDTH,
    verify_precision="bf16",
    verify_margin=0.5,
    verify_merged=True,
)


def empty_bank(folder: Path, actors: int) -> tuple[Bank, EncodeOptions]:
    """A bank that no codec made, and the options of a job that writes to it."""
    bank = Bank.create(str(folder / "bank"), IDENTITY)
    verifying = VerifyConfig("bf16", 0.5)
    columns = ColumnRoles()
    return bank, EncodeOptions(bank.folder.uri, "none", verifying, columns, actors=actors, gpus=True)


def units(count: int) -> Iterator[Unit]:
    """Units without any input."""
    for number in range(count):
        yield Unit(hex32(f"unit {number}"), (), documents=1, chunks=CHUNKS, bytes=512 * CHUNKS, rejected=0)


def rows(unit_id: str, count: int, *, seed: int = 0) -> pa.Table:
    """Memory rows of one document, as large as real ones and as hard to compress."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((count, EMBEDDING_WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = LATENTS * WIDTH
    columns = {
        schema.CHUNK_ID: [hex32(f"{unit_id}/{position}") for position in range(count)],
        schema.DOC_ID: [f"document of {unit_id}"] * count,
        schema.POSITION: range(count),
        schema.CHAR_START: range(0, 500 * count, 500),
        schema.CHAR_END: range(500, 500 * count + 1, 500),
        schema.NUM_TOKENS: [128] * count,
        schema.SOURCE: ["made up"] * count,
        schema.UNIT: [unit_id] * count,
        schema.CODES: [random.bytes(values // 2) for _ in range(count)],
        schema.SCALES: [random.bytes(values // 64 * 2) for _ in range(count)],
        schema.EMBEDDING: pa.FixedSizeListArray.from_arrays(vectors.ravel(), EMBEDDING_WIDTH),
        schema.FIDELITY: [1.0] * count,
        schema.PATCH: [random.bytes(16) for _ in range(count)],
        schema.TEXT_HASH: [hex32(f"text {position}") for position in range(count)],
        schema.TEXT: [None] * count,
        schema.DOC_HASH: [hex32(unit_id)] * count,
        schema.ENCODED_AT: [datetime.datetime.now(datetime.UTC)] * count,
        schema.REFINE_STEPS: [None] * count,
        schema.STEMS: [None] * count,
        schema.EDITED: [None] * count,
        schema.EDITED_FROM: [None] * count,
    }
    table_schema = schema.row_schema()
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in table_schema], schema=table_schema)


def hex32(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def paced_actors(unit_seconds: float, gpus_a_process: int) -> Actors:
    """A reader that reads nothing, and an encoder that waits, then writes a file of one row for each unit."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # benchmarks are not there for workers to import

    class Paced(PacedEncoder):
        seconds = unit_seconds

    return Actors(PacedReader, Paced, gpus_a_process)


class PacedReader:
    """Hands the unit on."""

    def __init__(self, options: EncodeOptions):
        pass

    def __call__(self, row: pa.Table) -> pa.Table:
        return row.rename_columns([CHUNKED])


class PacedEncoder:
    """Takes `seconds` for a unit, of which writing one row to a file is a part."""

    seconds = 0.0

    def __init__(self, options: EncodeOptions, ledger: RemoteLedger):
        self.ledger, self.writer = ledger, Bank.open(options.bank).writer()

    def __call__(self, row: pa.Table) -> pa.Table:
        unit, started = pickle.loads(row.column(0)[0].as_py()), time.time()
        self.ledger.begin(unit.unit_id, unit.documents)
        self.ledger.trying(unit.unit_id, 0, unit.documents)
        files = self.writer.write(unit.unit_id, rows(unit.unit_id, 1))
        time.sleep(max(0.0, started + self.seconds - time.time()))
        self.ledger.encoded(unit.chunks)
        receipt = Receipt(unit.unit_id, tuple(files), documents=1, chunks=unit.chunks, tokens=128 * unit.chunks)
        worker = f"{os.getpid()}/{threading.get_ident()}"
        outcome = Outcome(receipt, None, worker, started, {"seconds": time.time() - started})
        self.ledger.finished(unit.unit_id, outcome)
        return pa.table({OUTCOME: pa.array([pickle.dumps(outcome)], pa.large_binary())})
