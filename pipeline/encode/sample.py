"""Some of the units left to do, read and tokenised as a worker would: what the plan's guess of chunks is worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import Failure
from pipeline.encode.read_work import ReadWork
from pipeline.plan.plan import Work
from pipeline.plan.units import Unit

UNITS = 8  # spread evenly over the input; a compressed file is read from its start for each
FEW_UNITS = 2  # where a second or two is all that it may cost
CHEAP_CHUNKS, CHEAP_BYTES = 4096, 64 << 20  # of a unit, as planned; to be unpacked before one


@dataclass(frozen=True, slots=True)
class UnitSample:
    """What was found in a few units, beside what the plan had guessed for them."""

    units: int
    planned_chunks: int
    text_bytes: int  # of the documents' texts, estimated where the bank holds some of them
    chunks: pa.Table  # pipeline/schema.py, chunk_schema

    @property
    def tokens(self) -> int:
        return pc.sum(self.chunks[schema.NUM_TOKENS]).as_py() or 0

    @property
    def found_a_guess(self) -> float:
        """Chunks found for each that the plan had guessed: more than one where a script takes many tokens a byte."""
        known = self.chunks.num_rows and self.planned_chunks
        return self.chunks.num_rows / self.planned_chunks if known else 1.0

    def scaled(self, found: int, planned: int) -> int:
        """What was found in these units, scaled up to all that the plan guesses to be `planned` chunks."""
        return round(planned * found / self.planned_chunks) if self.planned_chunks else 0


def take_sample(work: Work, options: EncodeOptions) -> UnitSample:
    """At most UNITS units. Needs the codec's tokenizer, not its weights; a unit that cannot be read is passed over."""
    return _sample(work.some(UNITS), options)


def found_a_guess(work: Work, options: EncodeOptions) -> float:
    """`UnitSample.found_a_guess` of a few units that cost little to read."""
    return _sample(filter(_is_cheap, work.some(FEW_UNITS)), options).found_a_guess


def _is_cheap(unit: Unit) -> bool:
    unpacked = max((span.offset for span in unit.spans if span.file.compression and not span.file.spool), default=0)
    return unit.planned_chunks <= CHEAP_CHUNKS and unpacked <= CHEAP_BYTES


def _sample(units: Iterable[Unit], options: EncodeOptions) -> UnitSample:
    reader, taken, tables = ReadWork(options), [], []
    for unit in units:
        read = reader.read(unit)
        if not isinstance(read, Failure):
            taken.append(unit)
            tables.append(read.chunks)
    tables = tables or [schema.chunk_schema(options.columns.metadata_fields).empty_table()]
    return UnitSample(
        units=len(taken),
        planned_chunks=sum(unit.planned_chunks for unit in taken),
        text_bytes=sum(unit.bytes * unit.new_documents // max(1, unit.documents) for unit in taken),
        chunks=pa.concat_tables(tables),
    )
