"""What `nextmem info` prints about a bank, as one record."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.patch import NOTHING
from pipeline.bank import transaction_log as log
from pipeline.bank.bank import Bank
from pipeline.bank.identity import CodecIdentity
from pipeline.bank.rejected import rejected
from pipeline.schema import FIDELITY, NUM_TOKENS, PATCH, POSITION, REFINE_STEPS


@dataclass(frozen=True, slots=True)
class Quality:
    """Of verified rows. Means."""

    chunks: int
    fidelity: float
    patch_bytes: float
    steps: float  # of refining


@dataclass(frozen=True, slots=True)
class BankInfo:
    """One version of a bank in numbers."""

    uri: str
    version: int
    created_at: datetime.datetime
    changed_at: datetime.datetime
    identity: CodecIdentity
    metadata_columns: dict[str, str]  # name: type
    units: int
    documents: int
    chunks: int
    tokens: int
    rejected: int
    forgotten: int  # documents that no encode brings back
    fidelity: float | None  # mean share of positions greedy decoding gets right; None where nothing was verified
    verified: int  # chunks that have a fidelity
    unpatched: int  # chunks whose patch is empty: right at every position, and by more than the margin
    refined: Quality | None  # of rows whose latents were refined; None where there are none
    unrefined: Quality | None  # of the other rows that were verified
    files: int
    bytes: int
    column_bytes: dict[str, int]  # as stored, most first

    @property
    def bytes_per_chunk(self) -> float:
        return self.bytes / self.chunks if self.chunks else 0.0


def info(bank: Bank) -> BankInfo:
    """Reads every file's footer and four small columns."""
    files = bank.files()
    return BankInfo(
        uri=bank.folder.uri,
        version=bank.version,
        created_at=_time(bank.table.metadata().created_time),
        changed_at=_time(log.committed_at(bank.folder, bank.version)),
        identity=bank.identity,
        metadata_columns={field.name: str(field.type) for field in bank.metadata_fields},
        units=len(bank.finished_units()),
        rejected=sum(1 for _ in rejected(bank)),
        forgotten=len(bank.forgotten()),
        files=len(files),
        bytes=bank.stored_bytes(),
        column_bytes=_column_bytes(bank, files),
        **_row_counts(bank),
        **_refining(bank),
    )


def _time(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)


def _row_counts(bank: Bank) -> dict[str, float | None]:
    chunks = documents = tokens = verified = unpatched = 0
    total = 0.0
    for batch in bank.rows([POSITION, NUM_TOKENS, FIDELITY, PATCH], batch_rows=65_536):
        position, num_tokens, fidelity, patch = batch.columns
        chunks += batch.num_rows
        documents += pc.sum(pc.equal(position, 0)).as_py()
        tokens += pc.sum(num_tokens).as_py()
        verified += batch.num_rows - fidelity.null_count
        unpatched += pc.sum(pc.equal(patch, pa.scalar(NOTHING, pa.binary()))).as_py() or 0
        total += pc.sum(fidelity).as_py() or 0.0
    mean = total / verified if verified else None
    counts = dict(chunks=chunks, documents=documents, tokens=tokens, verified=verified)
    return counts | dict(unpatched=unpatched, fidelity=mean)


def _refining(bank: Bank) -> dict[str, Quality | None]:
    """Verified rows with steps and without. A bank that was made before rows had steps has no refined ones."""
    steps = [REFINE_STEPS] if REFINE_STEPS in bank.schema.names else []
    found = {"refined": Counter[str](), "unrefined": Counter[str]()}
    for batch in bank.rows([FIDELITY, PATCH, *steps], pc.field(FIDELITY).is_valid(), batch_rows=65_536):
        refined = batch.column(REFINE_STEPS).is_valid() if steps else pa.array([False] * batch.num_rows)
        for name, rows in (("refined", batch.filter(refined)), ("unrefined", batch.filter(pc.invert(refined)))):
            found[name]["chunks"] += rows.num_rows
            found[name]["fidelity"] += pc.sum(rows.column(FIDELITY)).as_py() or 0.0
            found[name]["patch_bytes"] += pc.sum(pc.binary_length(rows.column(PATCH))).as_py() or 0
            found[name]["steps"] += (pc.sum(rows.column(REFINE_STEPS)).as_py() or 0) if steps else 0
    return {name: _mean(sums) for name, sums in found.items()}


def _mean(sums: Counter[str]) -> Quality | None:
    count = sums["chunks"]
    return Quality(count, *(sums[name] / count for name in ("fidelity", "patch_bytes", "steps"))) if count else None


def _column_bytes(bank: Bank, files: list[str]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for name in files:
        with bank.folder.filesystem.open_input_file(name) as source:
            footer = pq.read_metadata(source)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                sizes[column.path_in_schema.split(".")[0]] += column.total_compressed_size
    return dict(sizes.most_common())
