"""How a CPU's cores are best shared out: one-thread actors, or one actor with all threads.

    python -m benchmarks.actors --corpus articles.parquet --chunks 256

Three real jobs in turn, each on the same chunks: one actor a core, one actor with a thread a core, and one actor with
one thread. The first over the last is what a second core is worth; the better of the first two is the default.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.harness import Ratio, Report, cores, options
from benchmarks.jobs import run_encode, segments, write_corpus
from model.weights import find_weights

CHUNK_TOKENS = 128


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--chunks", type=int, default=256)
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--unit-chunks", type=int, default=32, help="few, so that no actor waits long at the end")
    arguments = parser.parse_args()
    report = Report("actors", arguments.json, backbone=arguments.backbone, verify=not arguments.no_verify)
    tokenizer = find_weights(arguments.backbone).tokenizer()
    part = segments(arguments.corpus, tokenizer, CHUNK_TOKENS, arguments.chunks, 1)[0]
    sides = {
        f"{cores()} actors, 1 thread each": (cores(), 1),
        f"1 actor, {cores()} threads": (1, cores()),
        "1 actor, 1 thread": (1, 1),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(arguments.rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            rates[name].append(_rate(part, *sides[name], arguments))
            report.line(f"round {turn + 1}: {name}, chunks/s", rates[name][-1])
    many, wide, single = rates.values()
    for name, each in rates.items():
        report.line(f"{name}, chunks/s", each)
    report.ratio(f"{cores()} actors over one actor with as many threads", Ratio.of(many, wide))
    report.ratio(f"{cores()} actors over one", Ratio.of(many, single), least=0.9 * cores())
    report.close()


def _rate(part, actors: int, threads: int, arguments) -> float:
    options = ["--backbone", arguments.backbone, "--actors", str(actors), "--set", f"threads={threads}"]
    options += ["--set", f"unit_chunks={arguments.unit_chunks}", "--set", "commit_seconds=0.5"]
    options += ["--no-verify"] if arguments.no_verify else []
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_corpus(part, Path(scratch, "corpus.parquet"))
        done = run_encode(corpus, Path(scratch, "bank"), *options)
    return done["chunks"] / done["seconds"]


if __name__ == "__main__":
    main()
