"""What refining latents gives, and what it costs in encodings of a chunk: on passages that no codec was trained on.

    python -m benchmarks.refine --data eval_squad.parquet --data eval_race.parquet --passages 20 --steps 8 --steps 24

Some lines for each file and number of steps; 0 steps are the encoder's own latents. Everything goes through NF4. F1 is
of what the latents alone give, decoded freely without patches: a draft may run 8 tokens past its text. Fidelity and
patch are of the verifying forward. A cost is seconds of refining over seconds of encoding the same chunks in the same
process. With --noise, the fidelity of latents with noise, in deviations of each channel, says how brittle they are.
Shapes: B chunks, K latents, D hidden width.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from benchmarks.harness import Report, options, timed
from benchmarks.loaded import add_options, named_precision, the_codec
from model.codec import Codec
from model.config import RefineConfig
from model.memory import Memory
from model.patch import NOTHING
from model.reconstruction import word_f1
from pipeline.corpus.passages import Found, passage_files, read_passages

T = TypeVar("T")

BATCH = 32
PAST = 8  # tokens that a draft may be longer than its text
MIN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Latents:
    """Of one set, by one number of steps."""

    latents_BKD: torch.Tensor
    memories: list[Memory]
    encodes: float  # cost a chunk, beside encoding it


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--data", action="append", required=True, help="Parquet with passages; may be repeated")
    parser.add_argument("--passages", type=int, default=20, help="of each file; default: %(default)s")
    parser.add_argument("--steps", type=int, action="append", help="at most, a chunk; may be repeated; default: 8, 24")
    parser.add_argument("--noise", type=float, action="append", default=[], help="deviations; may be repeated")
    arguments = parser.parse_args()
    codec = the_codec(arguments)
    report = Report("refine", arguments.json, precision=named_precision(arguments.precision), codec=codec.identity)
    for file in passage_files(arguments.data):
        chunks = first_chunks(codec, Path(file), arguments.passages)
        for steps in (0, *(arguments.steps or (8, 24))):
            found = latents(codec, chunks, steps)
            tell(report, codec, f"{Path(file).stem}, {steps} steps", chunks, found)
            for deviations in arguments.noise:
                name = f"{Path(file).stem}, {steps} steps: fidelity with noise of {deviations:g}"
                report.line(name, noisy_fidelity(codec, chunks, found.latents_BKD, deviations))
    report.close()


def first_chunks(codec: Codec, file: Path, count: int) -> list[np.ndarray]:
    """Of the first `count` different passages that are long enough. ValueError where there is none."""
    texts = dict.fromkeys(read_passages([file], "text", Found()))
    firsts = (next(codec.tokenizer.chunks(text, codec.config.chunk_tokens)).token_ids for text in texts)
    chunks = list(islice((ids for ids in firsts if len(ids) >= MIN_TOKENS), count))
    if not chunks:
        raise ValueError(f"{file} has no passage of {MIN_TOKENS} tokens or more in its column 'text'")
    return chunks


def latents(codec: Codec, chunks: Sequence[np.ndarray], steps: int) -> Latents:
    """The encoder's, or refined ones; batch by batch, each timed against encoding itself."""
    parts, memories, refining, encoding = [], [], 0.0, 0.0
    for first in range(0, len(chunks), BATCH):
        some = chunks[first : first + BATCH]
        ids_BL, lengths_B = codec.pad(some)
        made_BKD, seconds = result_of(partial(codec.encode, ids_BL, lengths_B))
        encoding += seconds
        refined = None
        if steps:
            refined, seconds = result_of(partial(codec.refine, made_BKD, some, RefineConfig(steps)))
            refining += seconds
        parts.append(refined.latents_BKD if refined else made_BKD.float())
        memories += codec.keep(made_BKD, some, refined=refined)
    return Latents(torch.cat(parts), memories, refining / encoding)


def result_of(call: Callable[[], T]) -> tuple[T, float]:
    """What it returns, and the seconds that it took."""
    returned: list[T] = []
    seconds = timed(lambda: returned.append(call()))
    return returned[0], seconds


def tell(report: Report, codec: Codec, name: str, chunks: Sequence[np.ndarray], found: Latents) -> None:
    """One line a figure."""
    drafts = decoded(codec, found.latents_BKD, chunks)
    texts = [(codec.tokenizer.decode(ids.tolist()), codec.tokenizer.decode(d.tolist())) for ids, d in drafts]
    report.line(f"{name}: F1", statistics.fmean(word_f1(*both) for both in texts))
    report.line(f"{name}: whole", statistics.fmean(float(np.array_equal(*both)) for both in drafts))
    report.line(f"{name}: fidelity", statistics.fmean(m.fidelity for m in found.memories))
    report.line(f"{name}: no patch", statistics.fmean(m.patch == NOTHING for m in found.memories))
    report.line(f"{name}: patch, median", float(statistics.median(len(m.patch) for m in found.memories)), "bytes")
    report.line(f"{name}: patch, mean", statistics.fmean(len(m.patch) for m in found.memories), "bytes")
    own_BE = torch.from_numpy(np.stack([m.embedding_E for m in found.memories]))
    cosine = (codec.embed(found.latents_BKD).cpu() * own_BE).sum(-1).mean()
    report.line(f"{name}: cosine of their embedding to the encoder's", float(cosine))
    if found.encodes:
        report.line(f"{name}: steps made", statistics.fmean(m.refining.steps for m in found.memories))
        report.line(f"{name}: cost", found.encodes, "encodings")


def decoded(codec: Codec, latents_BKD: torch.Tensor, chunks: Sequence[np.ndarray]) -> list[tuple]:
    """(token ids, what greedy decoding gives of the latents through NF4, up to its end), for each chunk."""
    both = []
    for first in range(0, len(chunks), BATCH):
        some = chunks[first : first + BATCH]
        stored_BKD = codec.dequantise(*codec.quantise(latents_BKD[first : first + BATCH]))
        drafts = codec.draft(stored_BKD, [len(ids) + PAST for ids in some])
        both += [(ids, codec.until_end(draft)) for ids, draft in zip(some, drafts, strict=True)]
    return both


def noisy_fidelity(codec: Codec, chunks: Sequence[np.ndarray], latents_BKD: torch.Tensor, deviations: float) -> float:
    """Mean over chunks, of noise drawn with one seed and added before NF4."""
    draw = torch.Generator().manual_seed(0)
    noise_BKD = torch.randn(latents_BKD.shape, generator=draw).to(latents_BKD)
    noisy_BKD = latents_BKD + deviations * codec.statistics.deviation_D.to(latents_BKD) * noise_BKD
    firsts = range(0, len(chunks), BATCH)
    memories = [m for i in firsts for m in codec.keep(noisy_BKD[i : i + BATCH], chunks[i : i + BATCH])]
    return statistics.fmean(memory.fidelity for memory in memories)


if __name__ == "__main__":
    main()
