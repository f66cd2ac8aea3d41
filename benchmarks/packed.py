"""A large packed corpus: what planning it and reading all of its units takes, beside the same corpus unpacked.

    python -m benchmarks.packed --megabytes 200

`--without-spool` reads each unit as it was done before: the file is unpacked from its start. That is quadratic, so only
units spread evenly over the file are read, and the time of all is what those took, times as many.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Report, options
from pipeline.corpus import spool
from pipeline.corpus.documents import ColumnRoles
from pipeline.plan.plan import Plan, plan_corpus
from pipeline.plan.units import Unit, read_unit

UNIT_CHUNKS = 128
TRIED = 20  # units, of those that are unpacked from the start


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--megabytes", type=int, default=200, help="of text; default: %(default)s")
    parser.add_argument("--without-spool", action="store_true")
    arguments = parser.parse_args()
    report = Report("packed", arguments.json)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = _corpus(Path(scratch), arguments.megabytes)
        report.line("the packed file", corpus.stat().st_size / 1e6, "MB")
        if arguments.without_spool:
            spool.WORTH_BYTES = 1 << 60
        started = time.perf_counter()
        plan = plan_corpus([str(corpus)], ColumnRoles(), unit_chunks=UNIT_CHUNKS, folder=str(Path(scratch) / "plan"))
        report.line("planning", time.perf_counter() - started, "s")
        report.line("units", plan.counts.units)
        spools = list((Path(scratch) / "plan").glob(f"*{spool.SUFFIX}"))
        report.line("its spool", sum(path.stat().st_size for path in spools) / 1e6, "MB")
        report.line("reading all units", _reading(plan, TRIED if arguments.without_spool else None), "s")
    report.close()


def _reading(plan: Plan, tried: int | None) -> float:
    units: list[Unit] = sorted(plan.units(), key=lambda unit: unit.spans[0].offset)
    step = 1 if tried is None else max(1, len(units) // tried)
    chosen = units[step // 2 :: step]
    started = time.perf_counter()
    for unit in chosen:
        for _ in read_unit(unit, plan.columns):
            pass
    return (time.perf_counter() - started) * len(units) / len(chosen)


def _corpus(folder: Path, megabytes: int) -> Path:
    """Words of a small vocabulary, which pack as text does: about four to one."""
    generator = random.Random(0)
    words = ["".join(generator.choices("etaoinshrdlu", k=generator.randint(2, 9))) for _ in range(5000)]
    plain = folder / "corpus.jsonl"
    with open(plain, "w") as file:
        for number in range(megabytes * 1_000_000 // 2000):
            text = " ".join(generator.choices(words, k=300))
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    packed = folder / "corpus.jsonl.gz"
    with open(plain, "rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    plain.unlink()
    return packed


if __name__ == "__main__":
    main()
