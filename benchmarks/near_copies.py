"""How near, by embedding, a passage lies to copies of itself that were changed a little, and to every other passage.

    python -m benchmarks.near_copies --data eval_squad.parquet --passages 160

It says what a threshold of `nextmem dedupe` finds, and what it takes for a copy that is none. Each passage counts with
its first chunk, and so does its copy. Shapes: B passages, E embedding width.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice

import numpy as np
import torch

from benchmarks.harness import Report, options
from benchmarks.loaded import add_options, named_precision, the_codec
from model.codec import Codec
from pipeline.corpus.passages import Found, passage_files, read_passages

BATCH = 32
THRESHOLDS = (0.9, 0.95, 0.98)
QUANTILES = (0.05, 0.5)


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--data", required=True, help="Parquet with passages")
    parser.add_argument("--passages", type=int, default=160, help="default: %(default)s")
    arguments = parser.parse_args()
    codec = the_codec(arguments)
    report = Report("near_copies", arguments.json, precision=named_precision(arguments.precision))
    found = dict.fromkeys(read_passages(passage_files([arguments.data]), "text", Found()))
    texts = list(islice(found, arguments.passages))
    own_BE = embedded(codec, texts)
    for name, change in changes(texts).items():
        copies_BE = embedded(codec, [change(text) for text in texts])
        report_cosines(report, name, (own_BE * copies_BE).sum(1))
    others_BB = own_BE @ own_BE.T
    np.fill_diagonal(others_BB, -1)
    report_cosines(report, "the nearest other passage", others_BB.max(1))
    report.close()


def changes(texts: list[str]) -> dict[str, Callable[[str], str]]:
    """What is done to a copy, by name. Seeded."""
    draw = random.Random(0)
    words = [word for text in texts for word in text.split()]

    def replaced(count: int, text: str) -> str:
        own = text.split()
        for place in draw.sample(range(min(len(own), 80)), min(count, len(own))):  # within the first chunk
            own[place] = draw.choice(words)
        return " ".join(own)

    return {
        "one word another": lambda text: replaced(1, text),
        "three words others": lambda text: replaced(3, text),
        "eight words others": lambda text: replaced(8, text),
        "the first word gone": lambda text: text.split(" ", 1)[-1],
        "in small letters": str.lower,
    }


@torch.inference_mode()
def embedded(codec: Codec, texts: list[str]) -> np.ndarray:
    """float32 [B, E], of length 1."""
    chunks = [np.array(codec.tokenizer.encode(text)[: codec.config.chunk_tokens]) for text in texts]
    groups = [chunks[at : at + BATCH] for at in range(0, len(chunks), BATCH)]
    return np.concatenate([codec.embed(codec.encode(*codec.pad(group))).float().cpu().numpy() for group in groups])


def report_cosines(report: Report, name: str, cosines_B: np.ndarray) -> None:
    low, middle = np.quantile(cosines_B, QUANTILES)
    report.line(f"{name}: cosine, 5 % lie under", [float(low)], "")
    report.line(f"{name}: cosine, median", [float(middle)], "")
    for threshold in THRESHOLDS:
        report.line(f"{name}: at {threshold:g} and above", [100 * float((cosines_B >= threshold).mean())], "%")


if __name__ == "__main__":
    main()
