"""A chunk table to memory rows: batches by length, as large as memory allows, one table in document order.

Knows no Ray: benchmarks run it in a bare loop.
"""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import torch

from model.batches import FEWEST, batches
from model.codec import Codec
from model.config import RefineConfig
from model.memory import Memory
from model.patch import text_patch
from model.refine import Refining
from model.speed import body_weights, encode_flop
from pipeline import schema
from pipeline.encode.batch_size import batch_size as size_for
from pipeline.encode.batch_size import free_memory, is_out_of_memory

BATCH_COST = {"fp32": 256, "bf16": 700}  # of one more batch on a CPU, in positions of the prefill
VERIFIED_POSITION = 2.5  # what a position costs that is verified too, in positions of the prefill


class Memoriser:
    """Turns chunk tables into memory rows with one codec. `numbers` counts what was done since it was last taken."""

    def __init__(
        self,
        codec: Codec,
        *,
        verify: bool = True,
        refine: RefineConfig | None = None,
        batch_size: int | None = None,
        on_batch: Callable[[int], None] = lambda chunks: None,
    ):
        self.codec, self.verify, self.refine, self.on_batch = codec, verify, refine, on_batch
        self.batch_size = size_for(codec.backbone.device, codec.backbone.precision, batch_size)
        cost = BATCH_COST[codec.backbone.precision] / (VERIFIED_POSITION if verify else 1)
        self.batch_cost = cost if codec.backbone.device.type == "cpu" else FEWEST
        self._weights = body_weights(codec.backbone)
        self._numbers: Counter[str] = Counter()

    def take_numbers(self) -> dict[str, float]:
        """Seconds, FLOP, positions, padding and quality sums since the last call, to be added up by the summary."""
        numbers, self._numbers = dict(self._numbers), Counter()
        return numbers

    def memorise(self, chunks: pa.Table, unit_id: str) -> pa.Table:
        """Memory rows of a chunk table, in its order."""
        ids = [np.asarray(row.values, dtype=np.int32) for row in chunks[schema.TOKEN_IDS]]
        start, before = time.perf_counter(), self._numbers["refine_seconds"]
        memories: list[Memory | None] = [None] * len(ids)
        left = [i for i, chunk in enumerate(ids) if len(chunk)]  # a lossy chunk may have no tokens at all
        while left:
            size = self.batch_size.now
            for group in batches([len(ids[i]) for i in left], size, batch_cost=self.batch_cost):
                where = [left[i] for i in group]
                for i, memory in zip(where, self._batch([ids[i] for i in where]), strict=False):
                    memories[i] = memory
                if self.batch_size.now != size:  # the rest is grouped anew, the batch that did not fit among it
                    break
            left = [i for i in left if memories[i] is None]
        self._numbers["encode_seconds"] += time.perf_counter() - start - (self._numbers["refine_seconds"] - before)
        rows = _rows(chunks, [m or self._blank() for m in memories], self.codec, unit_id)
        self._count(ids, rows)
        if self.refine:
            self._count_refined([m.refining for m in memories if m])
        return rows

    def _batch(self, chunks: Sequence[np.ndarray]) -> list[Memory]:
        """One batch; nothing where memory ran out, and the next are smaller. A single chunk that does not fit raises.

        Memory is freed outside of the `except`: until it is left, the error's traceback holds the batch's tensors.
        """
        memories = None
        try:
            memories = self._refined(chunks) if self.refine else self.codec.memorise(chunks, verify=self.verify)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if len(chunks) == 1 or not is_out_of_memory(error):
                raise
        if memories is None:
            free_memory()
            self.batch_size.failed(len(chunks))
            return []
        longest, latents = max(len(chunk) for chunk in chunks), self.codec.config.num_latents
        self.batch_size.worked(len(chunks))
        self.on_batch(len(chunks))
        self._numbers["positions"] += len(chunks) * (longest + latents)
        self._numbers["padding"] += sum(longest - len(chunk) for chunk in chunks)
        return memories

    def _refined(self, chunks: Sequence[np.ndarray]) -> list[Memory]:
        """As `Codec.memorise` with refined latents; both parts are timed, so that one can be told in the other."""
        start = time.perf_counter()
        latents_BKD = self.codec.encode(*self.codec.pad(chunks))
        encoded = time.perf_counter()
        refined = self.codec.refine(latents_BKD, chunks, self.refine)
        self._numbers["refined_encode_seconds"] += encoded - start
        self._numbers["refine_seconds"] += time.perf_counter() - encoded
        return self.codec.keep(latents_BKD, chunks, verify=self.verify, refined=refined)

    def _blank(self) -> Memory:
        """For a text that the tokenizer drops whole: latents of nothing, an embedding that is far from everything."""
        zeros = torch.zeros(1, self.codec.config.num_latents, self.codec.backbone.width)
        codes, scales = self.codec.quantise(zeros.to(self.codec.backbone.device))
        embedding_E = np.zeros(self.codec.embedding_width, dtype=np.float32)
        return Memory(codes.cpu().numpy().tobytes(), scales.cpu().numpy().tobytes(), embedding_E, None, None)

    def _count(self, ids: Sequence[np.ndarray], rows: pa.Table) -> None:
        latents = self.codec.config.num_latents
        self._numbers["encode_flop"] += sum(encode_flop(self._weights, len(chunk), latents) for chunk in ids)
        for patch, fidelity, chunk in zip(rows[schema.PATCH], rows[schema.FIDELITY], ids, strict=True):
            if patch.as_py() is None or fidelity.as_py() is None:
                continue
            carried = self.codec.patches.unpack(patch.as_py()).carried(len(chunk))
            self._numbers["verified"] += 1
            self._numbers["fidelity"] += fidelity.as_py()
            self._numbers["whole"] += fidelity.as_py() == 1.0
            self._numbers["carried"] += carried
            self._numbers["patch_bytes"] += len(patch.as_py())

    def _count_refined(self, refinings: Sequence[Refining]) -> None:
        done = [each for each in refinings if each.finite]
        self._numbers["not_refined"] += len(refinings) - len(done)
        self._numbers["refined"] += len(done)
        self._numbers["refine_steps"] += sum(each.steps for each in done)
        self._numbers["fidelity_before"] += sum(each.fidelity_before for each in done)
        self._numbers["patch_bytes_before"] += sum(each.patch_bytes_before for each in done)


def _rows(chunks: pa.Table, memories: Sequence[Memory], codec: Codec, unit_id: str) -> pa.Table:
    """The chunk table's columns and the memories', in the order of row_schema. A lossy chunk's patch says: see text."""
    lossy = chunks[schema.LOSSY].to_pylist()
    kept = codec.patches.pack(text_patch())
    metadata = tuple(field for field in chunks.schema if field.name not in schema.RESERVED)
    made = {
        schema.UNIT: [unit_id] * len(memories),
        schema.CODES: [m.codes for m in memories],
        schema.SCALES: [m.scales for m in memories],
        schema.EMBEDDING: [m.embedding_E for m in memories],
        schema.FIDELITY: [m.fidelity for m in memories],
        schema.PATCH: [kept if lost else m.patch for m, lost in zip(memories, lossy, strict=True)],
        schema.ENCODED_AT: [datetime.datetime.now(datetime.UTC)] * len(memories),
        schema.REFINE_STEPS: [m.refining and m.refining.steps for m in memories],
        schema.EDITED: [None] * len(memories),
        schema.EDITED_FROM: [None] * len(memories),
    }
    table_schema = schema.row_schema(metadata)
    columns = [made[name] if name in made else chunks[name] for name in table_schema.names]
    arrays = [
        c if isinstance(c, pa.ChunkedArray) else pa.array(c, f.type) for c, f in zip(columns, table_schema, strict=True)
    ]
    return pa.table(arrays, schema=table_schema)
