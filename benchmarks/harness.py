"""What every benchmark shares: options, real chunks to work on, interleaved timing, and a report of both sides.

A ratio is what counts: machines differ, and one machine drifts. Sides are run in turn (A B A B ...), and a ratio is
the median over rounds with its smallest and largest value.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from jobs.cluster.session import cores
from model.tokens import TextTokenizer
from pipeline.corpus.documents import ColumnRoles, Document

SAMPLES = "samples/articles.jsonl"


def options(description: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options all benchmarks take; `rounds` is the default number of A-B turns."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--corpus", default=SAMPLES, help="Parquet, JSONL or text; default: %(default)s")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--json", action="store_true", help="one JSON line at the end")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="turns of both sides; default: %(default)s")
    return parser


def documents(corpus: str) -> Iterator[Document]:
    """The documents of a corpus, in order; what is no document is passed over."""
    from pipeline.corpus.corpus import Span, corpus_files  # here: what reads no corpus needs no reader's libraries
    from pipeline.corpus.readers import read_span

    for file in corpus_files([corpus]):
        for located in read_span(Span(file), ColumnRoles()):
            if isinstance(located.item, Document):
                yield located.item


def token_chunks(corpus: str, tokenizer: TextTokenizer, limit: int, count: int, *, shortest: int) -> list[np.ndarray]:
    """Token ids of the first `count` chunks of at least `shortest` tokens. SystemExit where the corpus has fewer."""
    every = (chunk.token_ids for document in documents(corpus) for chunk in tokenizer.chunks(document.text, limit))
    found = list(islice((ids for ids in every if len(ids) >= shortest), count))
    if len(found) < count:
        raise SystemExit(f"{corpus} has {len(found)} chunks of {shortest} to {limit} tokens; {count} were asked for")
    return found


def interleaved(sides: dict[str, Callable[[], object]], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each side, one value a round; the order turns round with every round."""
    if warm_up:
        for run in sides.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            seconds[name].append(timed(sides[name]))
    return seconds


def timed(run: Callable[[], object]) -> float:
    """Wall seconds of one call, with nothing left running on a GPU on either side of it."""
    gc.collect()
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median over rounds, with the smallest and the largest."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> Ratio:
        """Round by round: what drifts between rounds cancels."""
        each = [a / b for a, b in zip(above, below, strict=True)]
        return cls(statistics.median(each), min(each), max(each), len(each))

    def __str__(self) -> str:
        spread = f" ({self.least:.3g} to {self.most:.3g} in {self.rounds} rounds)" if self.rounds > 1 else ""
        return f"{self.median:.3g}{spread}"


class Report:
    """Lines on stdout as they are known; `close` adds one JSON line where it is wanted."""

    def __init__(self, name: str, as_json: bool, **setting: object):
        self.as_json, self.figures = as_json, {}
        self.head = {"benchmark": name, **machine(), **{key: value for key, value in setting.items()}}
        print(", ".join(f"{key} {value}" for key, value in self.head.items()), flush=True)

    def line(self, name: str, value: object, unit: str = "") -> None:
        """A measured value. Lists are one value a round: their median is printed."""
        self.figures[name] = value
        shown = statistics.median(value) if isinstance(value, list) else value
        shown = f"{shown:,.4g}" if isinstance(shown, float) else f"{shown:,}" if isinstance(shown, int) else shown
        print(f"  {name:<58} {shown} {unit}".rstrip(), flush=True)

    def ratio(self, name: str, ratio: Ratio, *, least: float | None = None, most: float | None = None) -> None:
        """A ratio and its target: at least `least`, or at most `most`."""
        target, met = "", None
        if least is not None:
            target, met = f"; target at least {least:g}", ratio.median >= least
        elif most is not None:
            target, met = f"; target at most {most:g}", ratio.median <= most
        self.figures[name] = asdict(ratio) | ({} if met is None else {"least": least, "most": most, "met": met})
        verdict = "" if met is None else ": met" if met else ": MISSED"
        print(f"  {name:<58} {ratio}{target}{verdict}", flush=True)

    def close(self) -> None:
        if self.as_json:
            print(json.dumps(self.head | {"figures": self.figures}, default=str), flush=True)


def machine() -> dict[str, object]:
    """What a figure was measured on."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _gpu() or _processor(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 1),  # of others, before the benchmark: ratios hold up, times do not
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
