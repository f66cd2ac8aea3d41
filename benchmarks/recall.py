"""What verifying costs, what batched recall gains, and whether recall is exact however it is batched.

    python -m benchmarks.recall --corpus articles.parquet --chunks 64 --eights 32 --alone 4

Verifying is measured against encoding without it; batched recall (32) against one by one. Every position is drafted,
also where a codec that gets little right would store token ids: that is the work of recalling with a trained codec.
"""

from __future__ import annotations

from benchmarks.exactness import Encoded, all_drafted, memorised, recall_in, report_exactness, report_patches
from benchmarks.harness import Ratio, Report, interleaved, options, token_chunks
from benchmarks.loaded import add_options, named_precision, the_codec
from model.codec import Codec

BATCH = 32


def main() -> None:
    parser = options(__doc__, rounds=3)
    add_options(parser)
    parser.add_argument("--chunks", type=int, default=64, help="recalled at batch 32; default: %(default)s")
    parser.add_argument("--eights", type=int, default=32, help="of them at batch 8 too; default: %(default)s")
    parser.add_argument("--alone", type=int, default=4, help="of them one by one too; default: %(default)s")
    parser.add_argument("--margin", type=float, help="default: the precision's own")
    arguments = parser.parse_args()
    precision = named_precision(arguments.precision)
    report = Report("recall", arguments.json, backbone=arguments.backbone, precision=precision)
    codec = the_codec(arguments, verifying=all_drafted(precision, arguments.margin))
    limit = codec.config.chunk_tokens
    chunks = token_chunks(arguments.corpus, codec.tokenizer, limit, max(BATCH, arguments.chunks), shortest=limit)
    report_verifying(report, codec, chunks[:BATCH], arguments.rounds)
    rows = memorised(codec, chunks)
    report_batching(report, codec, rows, arguments.alone, arguments.rounds)
    report_alone(report, codec, rows, arguments.alone, arguments.rounds)
    report_exactness(report, codec, rows, arguments.eights, arguments.alone)
    report_patches(report, codec, rows)
    report.close()


def report_verifying(report: Report, codec: Codec, chunks: list, rounds: int) -> None:
    """The cost of verifying is what it adds."""
    codec.memorise(chunks[:2])
    sides = {
        "without": lambda: codec.memorise(chunks, verify=False),
        "with": lambda: codec.memorise(chunks, verify=True),
    }
    seconds = interleaved(sides, rounds, warm_up=False)
    added = [both - alone for both, alone in zip(seconds["with"], seconds["without"], strict=True)]
    report.line(f"encoding {len(chunks)} chunks", seconds["without"], "s")
    report.line("verifying them", added, "s")
    report.ratio("verifying over encoding", Ratio.of(added, seconds["without"]), most=1.5)


def report_batching(report: Report, codec: Codec, rows: list[Encoded], alone: int, rounds: int) -> None:
    """Chunks a second both ways; one by one on a few, because it is slow."""
    seconds = interleaved(
        {"batch": lambda: recall_in(codec, rows[:BATCH], BATCH), "alone": lambda: recall_in(codec, rows[:alone], 1)},
        rounds,
        warm_up=False,
    )
    batched, single = [BATCH / each for each in seconds["batch"]], [alone / each for each in seconds["alone"]]
    report.line(f"recall in batches of {BATCH}", batched, "chunks/s")
    report.line("recall one by one", single, "chunks/s")
    report.ratio("batched recall over one by one", Ratio.of(batched, single))


def report_alone(report: Report, codec: Codec, rows: list[Encoded], alone: int, rounds: int) -> None:
    """A row alone is drafted several positions a forward (model/window.py); twice in a batch, one position a forward,
    and two such rows take hardly longer than one."""
    seconds = interleaved(
        {
            "alone": lambda: recall_in(codec, rows[:alone], 1),
            "twice": lambda: recall_in(codec, [row for row in rows[:alone] for _ in range(2)], 2),
        },
        rounds,
        warm_up=False,
    )
    report.ratio("one position a forward over a row alone", Ratio.of(seconds["twice"], seconds["alone"]), least=2)


if __name__ == "__main__":
    main()
