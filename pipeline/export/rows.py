"""What goes out of a bank: its rows with the parts that were asked for, streaming.

Shapes: N rows, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.schema import CODES, DOC_ID, EMBEDDING, LATENTS, PATCH, SCALES, STEMS, TEXT

if TYPE_CHECKING:
    from model.codec import Codec

PROPERTY = b"nextmem.identity"
PARTS = ("text", "latents", "codes", "embedding")
MADE = ("text", "latents")  # what only the codec can make of a row
COLUMNS_OF = {"text": (TEXT, STEMS), "codes": (CODES, SCALES, PATCH), "embedding": (EMBEDDING,)}  # of a bank's own
BATCH_ROWS = 256  # of latents: 63 MB at K = 15, D = 4096


class Rows:
    """The rows of one version of a bank that `filter` is true of, as columns for others.

    `parts`: which of PARTS come beside ids, places, hashes and metadata; None for a row as the bank holds it, which is
    codes, embedding, and the text where it was kept. `text` is recalled, exactly, and `latents` are the dequantised
    values, float32 [K * D] in row-major order of [K, D]. `embedding` has the fixed size E.
    """

    def __init__(
        self,
        bank: Bank,
        load_codec: Callable[[], Codec],
        parts: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
        on_rows: Callable[[int], object] = lambda rows: None,
    ):
        self.bank, self.filter, self.on_rows = bank, filter, on_rows
        self.parts = ("codes", "embedding") if parts is None else _known(parts)
        self.schema = _schema(bank, self.parts, every=parts is None)
        self.codec = load_codec() if set(self.parts) & set(MADE) else None
        self.count = 0  # of rows that have gone out
        self.fault: BaseException | None = None  # that ended them; a library that was reading may call it by its own

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Of `schema`, at most BATCH_ROWS at a time. Raises InexactRecall naming a row whose text is not exact."""
        try:
            yield from self._batches()
        except BaseException as error:
            self.fault = error
            raise

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.bank.rows(None, self.filter, batch_rows=BATCH_ROWS):
            columns = [self._column(batch, name) for name in self.schema.names]
            made = pa.RecordBatch.from_arrays(columns, schema=self.schema)
            self.count += made.num_rows
            self.on_rows(made.num_rows)
            yield made

    def _column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        if name == TEXT and "text" in self.parts:
            return _texts(batch, self.codec)
        if name == LATENTS and "latents" in self.parts:
            return _latents(batch, self.codec)
        if name == EMBEDDING:
            return pa.FixedSizeListArray.from_arrays(batch[name].flatten(), self.bank.identity.embedding_width)
        return batch[name]


def _known(parts: Sequence[str]) -> tuple[str, ...]:
    unknown = next((part for part in parts if part not in PARTS), None)
    if unknown is not None:
        raise Refusal(f"an export has no part {unknown!r}: name some of {', '.join(PARTS)}")
    return tuple(dict.fromkeys(parts))


def _schema(bank: Bank, parts: tuple[str, ...], *, every: bool) -> pa.Schema:
    """The columns that go out, and the codec's identity as schema metadata."""
    without = () if every else [name for part in COLUMNS_OF if part not in parts for name in COLUMNS_OF[part]]
    fields = [_fixed(bank) if field.name == EMBEDDING else field for field in bank.schema if field.name not in without]
    if "text" in parts:
        fields = [field.with_nullable(False) if field.name == TEXT else field for field in fields]
    schema = pa.schema(fields, metadata={PROPERTY: json.dumps(asdict(bank.identity)).encode()})
    if "latents" not in parts:
        return schema
    width = bank.identity.num_latents * bank.identity.hidden_width
    return with_column(schema, pa.field(LATENTS, pa.list_(pa.float32(), width), nullable=False))


def with_column(schema: pa.Schema, field: pa.Field) -> pa.Schema:
    """Raises Refusal where the bank has a column of that name already."""
    if field.name.lower() in map(str.lower, schema.names):
        raise Refusal(
            f"the bank has a column {field.name!r} of its own, and the export adds one: choose another target or part"
        )
    return schema.append(field)


def _fixed(bank: Bank) -> pa.Field:
    return pa.field(EMBEDDING, pa.list_(pa.float32(), bank.identity.embedding_width), nullable=False)


def _texts(batch: pa.RecordBatch, codec: Codec) -> pa.Array:
    from pipeline.bank.recall import InexactRecall, recall

    texts = []
    for row in recall([batch], codec):
        if not row.exact:
            raise InexactRecall(row)
        texts.append(row.text)
    return pa.array(texts, pa.string())


def _latents(batch: pa.RecordBatch, codec: Codec) -> pa.Array:
    from pipeline.bank.recall import is_damaged, stored_latents

    rows = pa.Table.from_batches([batch])
    damaged = next((row for row in rows.to_pylist() if is_damaged(row, codec)), None)
    if damaged is not None:
        raise Refusal(f"the latents of document {damaged[DOC_ID]!r} are damaged: `nextmem verify` names every such row")
    values_NKD = stored_latents(rows, codec).cpu().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(values_NKD.ravel()), values_NKD[0].size)
