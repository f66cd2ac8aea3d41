"""`nextmem encode`, end to end, against a bare loop in one process that does the same work.

    python -m benchmarks.pipeline --corpus articles.parquet --chunks 2000 --segments 4
    python -m benchmarks.pipeline --corpus articles.parquet --chunks 2000 --segments 4 --no-verify

The bare loop encodes, verifies, quantises and makes patches, with all threads, in batches by length over the whole
segment, on chunk tables made beforehand; it reads, writes and commits nothing. The job's time runs from the first unit
to the last commit; its start-up is shown apart. Each segment is done by both sides in turn, so that a drift of the
machine hits both.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import Ratio, Report, options, timed
from benchmarks.jobs import chunk_table, run_encode, segments, write_corpus
from benchmarks.loaded import add_options, named_precision, the_codec
from pipeline.encode.memorise import Memoriser


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--encode", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the job")
    arguments = parser.parse_args()
    precision, verify = named_precision(arguments.precision), not arguments.no_verify
    report = Report("pipeline", arguments.json, backbone=arguments.backbone, precision=precision, verify=verify)
    codec = the_codec(arguments)
    limit = codec.config.chunk_tokens
    sides = _Sides(arguments, precision, Memoriser(codec, verify=verify))
    parts = segments(arguments.corpus, codec.tokenizer, limit, arguments.chunks, arguments.segments)
    tables = [chunk_table(part, codec.tokenizer, limit) for part in parts]
    sides.bare(tables[0].slice(0, 4))
    jobs, bare = [], []
    for turn, (part, table) in enumerate(zip(parts, tables, strict=True)):
        if turn % 2:
            bare.append(table.num_rows / sides.bare(table))
        jobs.append(sides.job(part))
        if not turn % 2:
            bare.append(table.num_rows / sides.bare(table))
        chunks = jobs[-1]["chunks"]
        assert chunks == table.num_rows, f"the job made {chunks} chunks of {table.num_rows}"
        rate = chunks / jobs[-1]["seconds"]
        report.line(f"segment {turn + 1}: job, bare loop, chunks/s", f"{rate:.3g}, {bare[-1]:.3g}")
    rates = [job["chunks"] / job["seconds"] for job in jobs]
    positions = sides.numbers["positions"]
    report.line("chunks", sum(job["chunks"] for job in jobs))
    report.line("nextmem encode, chunks/s", rates)
    report.line("bare loop, chunks/s", bare)
    report.line("nextmem encode, start-up", [job["start_up_seconds"] for job in jobs], "s")
    report.line("nextmem encode, share of the matrix-product rate", [job["share_of_limit"] for job in jobs])
    report.line("nextmem encode, padding", [job["padding"] for job in jobs])
    report.line("bare loop, padding", sides.numbers["padding"] / positions)
    report.ratio("rate of nextmem encode over the bare loop's", Ratio.of(rates, bare), least=0.9)
    report.close()


class _Sides:
    """The same documents through the job and through the bare loop."""

    def __init__(self, arguments, precision: str, memoriser: Memoriser):
        self.memoriser, self.numbers = memoriser, Counter()
        self.options = ["--backbone", arguments.backbone, "--set", f"precision={precision}"]
        self.options += ["--no-verify"] if arguments.no_verify else []
        self.options += ["--codec", arguments.codec] if arguments.codec else []
        self.options += [word for pair in arguments.encode for word in ("--set", pair)]

    def job(self, part) -> dict:
        with tempfile.TemporaryDirectory() as scratch:
            corpus = write_corpus(part, Path(scratch, "corpus.parquet"))
            return run_encode(corpus, Path(scratch, "bank"), *self.options)

    def bare(self, table) -> float:
        seconds = timed(lambda: self.memoriser.memorise(table, "bare"))
        self.numbers.update(self.memoriser.take_numbers())
        return seconds


if __name__ == "__main__":
    main()
