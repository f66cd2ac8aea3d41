"""How many chunks at once: as many as memory holds. Fewer when it runs out, more again when it is there.

A CPU begins with what was measured to be fastest there and goes no further. A GPU begins small and doubles, as long as
what the last batch took of its memory says that twice as much will fit.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch

from model.backbone import Backbone

FIRST_ON_A_GPU, MOST_ON_A_GPU = 64, 2048  # chunks; a work unit has at most so many
USUAL_ON_A_GPU = 256  # where one size is wanted from beginning to end: benchmarks and trials
ON_A_CPU = {"fp32": 64, "bf16": 128}
GOOD_AFTER_A_FAILURE = 8  # good batches before a size that failed is tried again; with each failure twice as many
USED_AT_MOST = 0.9  # of the memory that is there, by a batch twice as large: the rest is lost to fragments
EXHAUSTED = (
    "DefaultCPUAllocator: can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


@dataclass(frozen=True, slots=True)
class Taken:
    """Of a device's memory, in bytes: what the last batch took at its peak, and what there was for it to take."""

    by_batch: int
    available: int


class BatchSize:
    """Chunks at once, `now`. `most`: never more; `first`: to begin with. Tell it of every batch."""

    def __init__(self, first: int, most: int, *, taken: Callable[[], Taken | None] = lambda: None):
        self.now, self.most, self._taken = min(first, most), most, taken
        self._wanted = 1  # good batches before the next doubling
        self._good = 0

    def worked(self, chunks: int) -> None:
        """A batch was done. One that was not half full says nothing of larger ones."""
        if 2 * chunks <= self.now or self.now == self.most:
            return
        self._good += 1
        if self._good >= self._wanted and self._fits_twice():
            self.now, self._good = min(2 * self.now, self.most), 0

    def failed(self, chunks: int) -> None:
        """Memory ran out in a batch."""
        self.now, self._good = max(1, chunks // 2), 0
        self._wanted = max(GOOD_AFTER_A_FAILURE, 2 * self._wanted)

    def _fits_twice(self) -> bool:
        taken = self._taken()
        return taken is None or 2 * taken.by_batch <= USED_AT_MOST * taken.available


def usual_batch(backbone: Backbone) -> int:
    """Chunks at once, where nothing is tried."""
    return ON_A_CPU[backbone.precision] if backbone.device.type == "cpu" else USUAL_ON_A_GPU


def batch_size(device: torch.device, precision: str, asked: int | None = None) -> BatchSize:
    """For a codec's device. `asked`: by a person, and then never more."""
    if device.type == "cuda":
        return BatchSize(asked or FIRST_ON_A_GPU, asked or MOST_ON_A_GPU, taken=lambda: _taken_on(device))
    return BatchSize(asked or ON_A_CPU[precision], asked or ON_A_CPU[precision])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in any of the words in which torch says so."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in EXHAUSTED)


def free_memory() -> None:
    """Give back what a batch held. Its exception must be gone: the traceback holds every tensor of its frames."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _taken_on(device: torch.device) -> Taken:
    """Since it was last asked. What torch keeps and does not use can be taken too."""
    kept, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    free, _ = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    return Taken(peak - kept, free + torch.cuda.memory_reserved(device) - kept)
