"""What a row of fewer latents, fewer bits, or more refining gives: fidelity, and bytes of latents and patch together.

    python -m benchmarks.rate_distortion --out points.jsonl --plot docs/rate.png

A point is one rate and one number of refining steps, over the same chunks. Each finished point is a line of --out; the
same command goes on with the points that lack, and draws all of them. Beside them stand what the text itself takes:
UTF-8, the same through zstd (each chunk alone, level 19), and its token ids, packed. Recall is exact at every point,
which the first chunks show: the patch holds what the latents lack. So the sum of both is what exact recall costs.
Shapes: B chunks, K latents, D hidden width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.harness import Report, documents, options
from benchmarks.loaded import add_options, named_precision, the_codec
from model.codec import Codec
from model.config import RefineConfig
from model.leading import leading_directions
from model.memory import Memory, Statistics, StoredMemory
from model.patch import NOTHING
from model.rate import Rate

BATCH = 25
MIN_TOKENS = 64
TICKS = (250, 500, 1000, 2000, 4000)  # bytes
LEARNED = 400  # chunks at most, from which directions are learned
RECALLED = 25  # chunks of each point, decoded to see


@dataclass(frozen=True, slots=True)
class Point:
    """Means over chunks. Sizes are bytes a chunk."""

    codec: str
    chunks: int
    latents: int
    bits: int
    steps: int
    fidelity: float
    latent_bytes: int  # codes and scales
    patch_bytes: float
    without_patch: float  # share of chunks
    rank: int  # directions along which a latent is stored; 0: all its values
    exact: int  # of RECALLED
    seconds: float

    @property
    def bytes(self) -> float:
        return self.latent_bytes + self.patch_bytes

    @property
    def key(self) -> tuple:
        return self.codec, self.chunks, self.latents, self.bits, self.steps, self.rank


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--passages", type=int, default=100, help="chunks; default: %(default)s")
    parser.add_argument("--latents", type=int, nargs="+", default=[2, 4, 8, 15], help="default: %(default)s")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3, 2], help="default: %(default)s")
    parser.add_argument("--steps", type=int, nargs="+", default=[0, 4], help="of refining; default: %(default)s")
    parser.add_argument("--ranks", type=int, nargs="+", default=[0], help="leading directions; 0: all; default: 0")
    parser.add_argument("--out", type=Path, default=Path("rate_distortion.jsonl"), help="default: %(default)s")
    parser.add_argument("--plot", type=Path, help="PNG of all points of this codec in --out")
    arguments = parser.parse_args()
    codec = the_codec(arguments)
    chunks, others = its_chunks(codec, arguments)
    report = Report(
        "rate_distortion", arguments.json, precision=named_precision(arguments.precision), codec=codec.identity
    )
    points = measured(codec, chunks, others, arguments)
    texts = text_bytes(codec, chunks)
    tell(report, points, texts)
    if arguments.plot:
        every = [p for p in read_points(arguments.out) if (p.codec, p.chunks) == (codec.identity, len(chunks))]
        draw(every, texts, arguments.plot)
    report.close()


def its_chunks(codec: Codec, arguments: Namespace) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first chunks of the corpus that are long enough, and as far as it has them, others to learn directions on."""
    limit = codec.config.chunk_tokens
    every = islice(long_chunks(codec, arguments.corpus, min(MIN_TOKENS, limit)), arguments.passages + LEARNED)
    chunks = list(every)
    if len(chunks) < arguments.passages:
        raise SystemExit(f"{arguments.corpus} has {len(chunks)} chunks; {arguments.passages} were asked for")
    return chunks[: arguments.passages], chunks[arguments.passages :]


def long_chunks(codec: Codec, corpus: str, shortest: int) -> Iterator[np.ndarray]:
    for document in documents(corpus):
        for chunk in codec.tokenizer.chunks(document.text, codec.config.chunk_tokens):
            if len(chunk.token_ids) >= shortest:
                yield chunk.token_ids


def measured(
    codec: Codec, chunks: Sequence[np.ndarray], others: Sequence[np.ndarray], arguments: Namespace
) -> list[Point]:
    """Every point that is asked for: those of earlier runs from --out, the others now, cheap ones first."""
    held = {point.key: point for point in read_points(arguments.out)}
    latents_NKD, points = encoded(codec, chunks), []
    stored_by = {rank: stored_along(codec, rank, others) for rank in arguments.ranks}
    wanted = sorted(arguments.steps), arguments.ranks, sorted(arguments.latents, reverse=True), arguments.bits
    for steps, rank, latents, bits in product(*wanted):
        key = codec.identity, len(chunks), latents, bits, steps, rank
        if key not in held:
            held[key] = measure(codec.at(Rate(latents, bits), stored_by[rank]), latents_NKD, chunks, steps, rank)
            with arguments.out.open("a") as file:
                file.write("\n" + json.dumps(asdict(held[key])))  # a line before it may be torn
        points.append(held[key])
    return points


def stored_along(codec: Codec, rank: int, others: Sequence[np.ndarray]) -> Statistics:
    """The codec's statistics, with the leading directions of other chunks' latents where a rank is asked for."""
    if not rank:
        return codec.statistics
    standard_ND = codec.quantiser.standardise(encoded(codec, others)).flatten(0, 1)
    return dataclasses.replace(codec.statistics, directions_RD=leading_directions(standard_ND, rank))


def read_points(path: Path) -> list[Point]:
    """Of a file of points; a line that a kill has torn is passed over."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Point(**json.loads(line)) for line in lines if line.endswith("}")]


def encoded(codec: Codec, chunks: Sequence[np.ndarray]) -> torch.Tensor:
    """All of every chunk's latents [N, K, D]: every point starts from the first of them."""
    firsts = range(0, len(chunks), BATCH)
    with torch.inference_mode():
        return torch.cat([codec.encode(*codec.pad(chunks[first : first + BATCH])) for first in firsts])


def measure(codec: Codec, latents_NKD: torch.Tensor, chunks: Sequence[np.ndarray], steps: int, rank: int) -> Point:
    start, memories = time.perf_counter(), []
    for first in range(0, len(chunks), BATCH):
        some, latents_BKD = chunks[first : first + BATCH], latents_NKD[first : first + BATCH]
        refined = codec.refine(latents_BKD, some, RefineConfig(steps)) if steps else None
        memories += codec.keep(latents_BKD, some, refined=refined)
    seconds = time.perf_counter() - start
    return Point(
        codec=codec.identity,
        chunks=len(chunks),
        latents=codec.quantiser.latents,
        bits=codec.quantiser.rate.bits,
        steps=steps,
        fidelity=statistics.fmean(memory.fidelity for memory in memories),
        latent_bytes=sum(codec.quantiser.sizes),
        patch_bytes=statistics.fmean(len(memory.patch) for memory in memories),
        without_patch=statistics.fmean(memory.patch == NOTHING for memory in memories),
        rank=rank,
        exact=exact(codec, memories[:RECALLED], chunks[:RECALLED]),
        seconds=round(seconds, 1),
    )


def exact(codec: Codec, memories: Sequence[Memory], chunks: Sequence[np.ndarray]) -> int:
    """How many of these give their tokens back."""
    rows = [
        StoredMemory(m.codes, m.scales, len(ids), m.patch, lambda found, ids=ids: np.array_equal(found, ids))
        for m, ids in zip(memories, chunks, strict=True)
    ]
    return sum(each.exact for each in codec.recall(rows))


def text_bytes(codec: Codec, chunks: Sequence[np.ndarray]) -> dict[str, float]:
    """Mean bytes of a chunk's text, in three forms."""
    texts = [codec.tokenizer.decode(ids.tolist()).encode() for ids in chunks]
    zstd = pa.Codec("zstd", compression_level=19)
    a_token = math.log2(codec.backbone.vocab_size) / 8
    return {
        "UTF-8": statistics.fmean(map(len, texts)),
        "zstd": statistics.fmean(len(zstd.compress(text, asbytes=True)) for text in texts),
        "token ids": statistics.fmean(math.ceil(len(ids) * a_token) for ids in chunks),
    }


def tell(report: Report, points: Sequence[Point], texts: dict[str, float]) -> None:
    for name, size in texts.items():
        report.line(f"the text as {name}", size, "bytes")
    for point in points:
        along = f", rank {point.rank}" if point.rank else ""
        name = f"{point.latents} latents, {point.bits} bits{along}, {point.steps} steps"
        report.line(f"{name}: fidelity", point.fidelity)
        report.line(f"{name}: latents", point.latent_bytes, "bytes")
        report.line(f"{name}: patch", point.patch_bytes, "bytes")
        report.line(f"{name}: both", point.bytes, "bytes")
        report.line(f"{name}: without a patch", point.without_patch)
        report.line(f"{name}: exact of {min(RECALLED, point.chunks)}", point.exact)
        report.line(f"{name}: took", point.seconds, "s")


def draw(points: Sequence[Point], texts: dict[str, float], path: Path) -> None:
    """Fidelity, and the patch, against the bytes of latents and patch: a line for each number of bits and
    of steps, over fewer latents or over fewer directions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {4: "tab:blue", 3: "tab:orange", 2: "tab:green"}
    lines = sorted({(point.steps, bool(point.rank), -point.bits) for point in points})
    styles = dict(zip(sorted({steps for steps, *_ in lines}), ("-", "--", "-.", ":"), strict=False))
    for steps, along, bits in ((steps, along, -minus) for steps, along, minus in lines):
        own = [p for p in points if (p.steps, bool(p.rank), p.bits) == (steps, along, bits)]
        own.sort(key=lambda p: (p.rank, p.latents))
        drawn = {"marker": "^" if along else ".", "color": colours[bits], "linestyle": styles[steps]}
        label = f"{bits} bits, fewer {'directions' if along else 'latents'}, {steps} steps"
        left.plot([p.bytes for p in own], [p.fidelity for p in own], **drawn)
        right.plot([p.bytes for p in own], [p.patch_bytes for p in own], label=label, **drawn)
    for point in (p for p in points if p.bits == 4 and not p.rank):
        left.annotate(str(point.latents), (point.bytes, point.fidelity), xytext=(3, 4), textcoords="offset points")
    for name, size in texts.items():
        for axes in (left, right):
            axes.axvline(size, color="grey", linestyle=":", linewidth=0.9)
        left.annotate(name, (size, left.get_ylim()[0]), rotation=90, fontsize=8, ha="right", va="bottom", color="grey")
    for axes, what in ((left, "fidelity"), (right, "patch, bytes a chunk")):
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
        axes.minorticks_off()
        axes.set_xlabel("latents and patch, bytes a chunk")
        axes.set_ylabel(what)
        axes.grid(alpha=0.25)
    figure.legend(*right.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    left.set_title("What the latents give (numbers: latents stored)", fontsize=10)
    right.set_title("What the patch holds so that recall is exact", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
