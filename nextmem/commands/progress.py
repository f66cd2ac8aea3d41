"""Progress of long work: a bar on stderr; of encoding and training also JSON lines on stdout."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from jobs.encode.progress import EncodeProgress
from jobs.output import emit, interval, share

LOADING = "encoders load the backbone"  # until the first chunk


class CountBar:
    """Chunks done of those asked for. Called with both; there from the first call on, and not for a single chunk."""

    def __init__(self, what: str, *, hidden: bool, leave: bool = True):
        self.what, self.hidden, self.leave = what, hidden, leave
        self.bar: tqdm | None = None

    def __enter__(self) -> CountBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, of: int | None) -> None:
        if self.hidden or of == 1:
            return
        if self.bar is None:
            self.bar = tqdm(
                total=of, unit="chunk", desc=self.what, file=sys.stderr, mininterval=interval(), leave=self.leave
            )
        self.bar.update(done - self.bar.n)


class EncodeBar:
    """Chunks done of those planned, with rate and ETA. Called with each EncodeProgress."""

    def __init__(self, *, as_json: bool):
        self.as_json, self.shown, self.start = as_json, 0, time.monotonic()
        self.bar: tqdm | None = None  # until there is something to show: a job that is refused shows none

    def __enter__(self) -> EncodeBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, now: EncodeProgress) -> None:
        if not now.chunks:
            self.start = time.monotonic()  # workers are loading: that is no part of the rate
        if self.as_json:
            self._emit(now)
            return
        if self.bar is None:
            self.bar = tqdm(total=now.of, unit="chunk", desc=LOADING, file=sys.stderr, mininterval=interval())
        if now.chunks and self.bar.desc.startswith(LOADING):
            self.bar.set_description("encoding", refresh=False)
        self.bar.total = now.of
        if now.rejected:
            self.bar.set_postfix(rejected=now.rejected, refresh=False)
        self.bar.update(now.chunks - self.bar.n)

    def _emit(self, now: EncodeProgress) -> None:
        if now.chunks == self.shown:
            return
        self.shown, rate = now.chunks, now.chunks / max(time.monotonic() - self.start, 1e-9)
        emit({"event": "progress", "chunks": now.chunks, "of": now.of, "rejected": now.rejected,
              "chunks_per_second": rate, "eta_seconds": (now.of - now.chunks) / rate})  # fmt: skip


class TrainBar:
    """Steps done of at most those planned, with loss and ETA. Called with each measured row."""

    def __init__(self, *, as_json: bool):
        self.as_json = as_json
        self.held_out: str | None = None
        self.bar: tqdm | None = None

    def __enter__(self) -> TrainBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, row: dict) -> None:
        """A row of metrics.jsonl."""
        if self.as_json:
            emit(row)
        elif row["event"] == "held_out":
            self.held_out = f"{row['loss']:.3f} ({row['accuracy']:.3f})"
        elif row["event"] == "step":
            self._step(row)
        elif row["event"] == "head":
            found, taught = share(row["found_first"]), share(row["teacher_found_first"])
            tqdm.write(
                f"step {row['step']}: loss {row['loss']:.3f}, {found} found first ({taught} by the teacher)", sys.stderr
            )
        elif row["event"] == "reader":
            tqdm.write(
                f"step {row['at_end']}: an answer's token costs {row['memory']:.3f} nats with its memory, "
                f"{row['foreign']:.3f} with another's; the backbone {row['text']:.3f} with the text, "
                f"{row['nothing']:.3f} with nothing",
                sys.stderr,
            )
        elif row["event"] == "reader_step":
            losses = {kind: f"{row[kind]:.3f}" for kind in ("continuation", "answer", "without") if kind in row}
            self._advance(row, "the reader", **losses)

    def _step(self, row: dict) -> None:
        self._advance(
            row,
            f"sub-stage {row['substage']}" if row["stage"] == 2 else "stage 1",
            loss=f"{row['loss']:.3f}",
            held_out=self.held_out,
            tokens_s=f"{row['tokens_per_second']:,.0f}",
            limit=share(row["share_of_limit"]),
            MB=f"{row['memory_mb']:,.0f}",
        )

    def _advance(self, row: dict, what: str, **shown: object) -> None:
        if self.bar is None:
            done = row["step"]  # the rate and ETA are of this launch
            self.bar = tqdm(unit="step", desc="training", file=sys.stderr, mininterval=interval(), initial=done)
        done = row["step"] + 1
        self.bar.total = done + row["steps_left"]
        self.bar.set_description(what, refresh=False)
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(done - self.bar.n)
