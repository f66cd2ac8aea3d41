"""Is what is recalled what was encoded? Counted per batch size and thread number, before and after mending.

Every position is drafted: `raw_share=1` keeps codecs that get little right from storing token ids instead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.harness import Report
from benchmarks.loaded import threads
from model.batches import batches
from model.codec import Codec
from model.config import VerifyConfig
from model.memory import Memory, StoredMemory
from model.patch import FORCED, RAW_SHARE, Patch
from pipeline.encode.batch_size import usual_batch


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk's token ids [L] and what became of them."""

    ids: np.ndarray
    memory: Memory

    def stored(self, verdicts: list[bool]) -> StoredMemory:
        """The row as recall reads it. Comparisons are noted: the first is of the draft, before anything is mended."""

        def matches(token_ids: np.ndarray) -> bool:
            verdicts.append(np.array_equal(token_ids, self.ids))
            return verdicts[-1]

        return StoredMemory(self.memory.codes, self.memory.scales, len(self.ids), self.memory.patch, matches)


def all_drafted(precision: str, margin: float | None = None) -> VerifyConfig:
    """The precision's own margin, or another, and nothing stored raw."""
    return VerifyConfig(precision, VerifyConfig.of(precision).margin if margin is None else margin, raw_share=1.0)


def memorised(codec: Codec, chunks: Sequence[np.ndarray]) -> list[Encoded]:
    found: dict[int, Encoded] = {}
    for group in batches([len(ids) for ids in chunks], usual_batch(codec.backbone)):
        memories = codec.memorise([chunks[i] for i in group])
        found |= {i: Encoded(chunks[i], memory) for i, memory in zip(group, memories, strict=True)}
    return [found[i] for i in range(len(chunks))]


def recall_in(codec: Codec, rows: Sequence[Encoded], size: int) -> tuple[int, int, float]:
    """Rows exact as drafted, rows exact in the end, seconds."""
    drafted = exact = 0
    start = time.perf_counter()
    for group in batches([len(row.ids) for row in rows], size):
        verdicts: list[list[bool]] = [[] for _ in group]
        found = codec.recall([rows[i].stored(seen) for i, seen in zip(group, verdicts, strict=True)])
        drafted += sum(seen[0] for seen in verdicts)
        exact += sum(recollection.exact for recollection in found)
    return drafted, exact, time.perf_counter() - start


def report_exactness(report: Report, codec: Codec, rows: Sequence[Encoded], eights: int, alone: int) -> None:
    """At batch 32, at batch 8, one by one, and at batch 32 with another number of threads than verified."""
    other = 1 if torch.get_num_threads() > 1 else 2
    for size, count, count_threads in ((32, len(rows), None), (8, eights, None), (1, alone, None), (32, eights, other)):
        with threads(count_threads):
            some = rows[:count]
            drafted, exact, seconds = recall_in(codec, some, size)
            name = "one by one" if size == 1 else f"batch {size}"
            name += f", {count_threads} threads instead" if count_threads else ""
            report.line(f"{name}: exact as drafted, and in the end", f"{drafted} and {exact} of {len(some)}")
            report.line(f"{name}: recall", len(some) / seconds, "chunks/s")


def report_patches(report: Report, codec: Codec, rows: Sequence[Encoded]) -> None:
    """What the margin costs, and what would be stored raw by default. Every row must be drafted in full."""
    positions = sum(len(row.ids) for row in rows)
    forced = [codec.patches.unpack(row.memory.patch).positions for row in rows]
    wrong = [round((1 - row.memory.fidelity) * len(row.ids)) for row in rows]
    bare = [codec.patches.pack(_first(where, count)) for where, count in zip(forced, wrong, strict=True)]
    at_margin = sum(map(len, forced)) - sum(wrong)
    raw = sum(len(where) > RAW_SHARE * len(row.ids) for where, row in zip(forced, rows, strict=True))
    report.line("margin", codec.verifying.margin, "logits")
    report.line("share of positions forced because they are wrong", sum(wrong) / positions)
    report.line("share of positions forced for the margin", at_margin / positions)
    report.line("patch bytes a chunk with the margin", sum(len(row.memory.patch) for row in rows) / len(rows))
    report.line("patch bytes a chunk without it", sum(map(len, bare)) / len(rows))
    report.line("chunks that would be stored raw by default", f"{raw} of {len(rows)}")


def _first(positions: np.ndarray, count: int) -> Patch:
    """A patch of as many entries: its size is what counts."""
    return Patch(FORCED, positions[:count], positions[:count])
