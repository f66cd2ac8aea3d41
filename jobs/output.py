"""What a person or a machine reads: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
import time

from tqdm import tqdm


def emit(record: dict) -> None:
    """One JSON object a line on stdout."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(rows: list[tuple[str, str]]) -> None:
    """Name and value in two columns on stdout."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


class Progress:
    """Chunks done of those planned, with rate and ETA: a bar on stderr, or JSON lines on stdout."""

    def __init__(self, total: int, *, as_json: bool):
        self.as_json, self.total = as_json, total
        self.shown, self.start = 0, time.monotonic()
        self.bar = tqdm(total=total, unit="chunk", desc="encoding", disable=as_json, file=sys.stderr, mininterval=0.5)

    def update(self, chunks: int, rejected: int) -> None:
        """`chunks` done so far in all. The plan only estimates, so the total grows with what is found."""
        if not chunks:
            self.start = time.monotonic()  # workers are loading: that is no part of the rate
        self.total = max(self.total, chunks)
        if self.as_json:
            self._emit(chunks, rejected)
            return
        self.bar.total = self.total
        self.bar.set_postfix(rejected=rejected, refresh=False)
        self.bar.update(chunks - self.bar.n)

    def close(self) -> None:
        self.bar.close()

    def _emit(self, chunks: int, rejected: int) -> None:
        if chunks == self.shown:
            return
        self.shown, rate = chunks, chunks / max(time.monotonic() - self.start, 1e-9)
        emit({"event": "progress", "chunks": chunks, "of": self.total, "rejected": rejected,
              "chunks_per_second": rate, "eta_seconds": (self.total - chunks) / rate})  # fmt: skip
