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


def interval() -> float:
    """Seconds between two looks at a bar: in a job's log each is a line of its own."""
    return 0.5 if sys.stderr.isatty() else 15.0


def duration(seconds: float | None) -> str:
    """In the two largest units that a person would say."""
    if seconds is None:
        return "-"
    seconds = round(seconds)
    for size, name, smaller, within in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {name} {seconds % size // smaller} {within}"
    return f"{seconds} s"


def size(count: float) -> str:
    """Bytes, in the unit that leaves at most three digits before the point."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000


class TrainProgress:
    """Steps done of at most those planned, with loss and ETA: a bar on stderr, or each measured row on stdout."""

    def __init__(self, *, as_json: bool):
        self.as_json, self.held_out = as_json, None
        self.bar = tqdm(unit="step", desc="training", disable=as_json, file=sys.stderr, mininterval=interval())

    def update(self, row: dict) -> None:
        """A row of metrics.jsonl."""
        if self.as_json:
            emit(row)
        elif row["event"] == "held_out":
            self.held_out = f"{row['loss']:.3f} ({row['accuracy']:.3f})"
        elif row["event"] == "step":
            done = row["step"] + 1
            if self.bar.n == 0:
                self.bar.initial = self.bar.n = done - 1  # the rate and ETA are of this launch
            self.bar.total = done + row["steps_left"]
            self.bar.set_description(f"sub-stage {row['substage']}" if row["stage"] == 2 else "stage 1", refresh=False)
            self.bar.set_postfix(
                loss=f"{row['loss']:.3f}",
                held_out=self.held_out,
                tokens_s=f"{row['tokens_per_second']:,.0f}",
                limit=share(row["share_of_limit"]),
                MB=f"{row['memory_mb']:,.0f}",
                refresh=False,
            )
            self.bar.update(done - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class Progress:
    """Chunks done of those planned, with rate and ETA: a bar on stderr, or JSON lines on stdout."""

    def __init__(self, total: int, *, as_json: bool):
        self.as_json, self.total = as_json, total
        self.shown, self.start = 0, time.monotonic()
        self.bar = tqdm(
            total=total, unit="chunk", desc="encoding", disable=as_json, file=sys.stderr, mininterval=interval()
        )

    def update(self, chunks: int, rejected: int, *, of: int) -> None:
        """`chunks` done so far in all. The plan only estimates, so the total follows what finished units held."""
        if not chunks:
            self.start = time.monotonic()  # workers are loading: that is no part of the rate
        self.total = max(of, chunks)
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
