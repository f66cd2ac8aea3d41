"""Some of the units left to do, read and tokenised as a worker would: what the plan's guess of chunks is worth."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.options import EncodeOptions
from pipeline.outcome import Failure
from pipeline.plan import Work
from pipeline.read_work import ReadWork

UNITS = 8  # spread evenly over the input; a compressed file is read from its start for each


@dataclass(frozen=True, slots=True)
class Sample:
    """What was found in a few units, beside what the plan had guessed for them."""

    units: int
    planned_chunks: int
    text_bytes: int  # of the documents' texts, estimated where the bank holds some of them
    chunks: pa.Table  # pipeline/schema.py, chunk_schema

    @property
    def tokens(self) -> int:
        return pc.sum(self.chunks[schema.NUM_TOKENS]).as_py() or 0

    def scaled(self, found: int, planned: int) -> int:
        """What was found in these units, scaled up to all that the plan guesses to be `planned` chunks."""
        return round(planned * found / self.planned_chunks) if self.planned_chunks else 0


def take_sample(work: Work, options: EncodeOptions) -> Sample:
    """At most UNITS units. Needs the codec's tokenizer, not its weights; a unit that cannot be read is passed over."""
    reader, units, tables = ReadWork(options), [], []
    for unit in work.some(UNITS):
        read = reader.read(unit)
        if not isinstance(read, Failure):
            units.append(unit)
            tables.append(read.chunks)
    tables = tables or [schema.chunk_schema(options.columns.fields).empty_table()]
    return Sample(
        units=len(units),
        planned_chunks=sum(unit.planned_chunks for unit in units),
        text_bytes=sum(unit.bytes * unit.new_documents // max(1, unit.documents) for unit in units),
        chunks=pa.concat_tables(tables),
    )
