"""A million work units: how long planning, committing and resuming take, and in how much memory.

    python -m benchmarks.many_units --units 1000000
    python -m benchmarks.many_units --files 100000

The corpus is made up: documents of one line, one a unit. Units are committed without files, as those are whose
documents were all rejected, so that nothing but plan and log is measured. `--files`: the corpus is that many files of
one document each, and the second listing is what a resume costs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psutil

from benchmarks.harness import Report, options
from benchmarks.made_up import empty_bank
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.corpus.documents import ColumnRoles
from pipeline.plan.plan import plan_corpus

A_COMMIT = 1000  # units


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=1)
    arguments = parser.parse_args()
    report = Report("many_units", arguments.json)
    with tempfile.TemporaryDirectory() as scratch:
        count = arguments.files if arguments.files > 1 else arguments.units
        corpus = _corpus(Path(scratch) / "corpus", count, arguments.files)
        _measure(report, Path(scratch), corpus)
    report.close()


def _measure(report: Report, folder: Path, corpus: str) -> None:
    def planned():
        return plan_corpus([corpus], ColumnRoles(), unit_chunks=1, folder=str(folder / "plan"))

    plan = _timed(report, "planning", planned)
    report.line("units", plan.counts.units)
    plan = _timed(report, "finding the plan again", planned)
    bank, _ = empty_bank(folder, 1)
    slowest = 0.0
    start, pending = time.perf_counter(), iter(plan.unit_ids())
    while unit_ids := list(islice(pending, A_COMMIT)):
        begun = time.perf_counter()
        commit(bank, [Receipt(unit_id) for unit_id in unit_ids])
        slowest = max(slowest, time.perf_counter() - begun)
    report.line(f"committing them, {A_COMMIT} at a time", time.perf_counter() - start, "s")
    report.line("the slowest commit", slowest, "s")
    bank = _timed(report, "opening the bank", lambda: Bank.open(bank.folder.uri))
    finished = _timed(report, "which units are finished", lambda: bank.finished_units(plan.unit_ids()))
    work = _timed(report, "what is left to do", lambda: plan.against(bank.documents(but_of=finished), finished))
    report.line("units left", work.counts.units)
    report.line("memory of this process", psutil.Process().memory_info().rss / 1e6, "MB")


def _timed(report: Report, name: str, run: Callable):
    start = time.perf_counter()
    found = run()
    report.line(name, time.perf_counter() - start, "s")
    return found


def _corpus(folder: Path, documents: int, files: int) -> str:
    """JSONL: all documents in one file, or one in each."""
    folder.mkdir()
    lines = (f'{{"id": "{number}", "text": "Document number {number}."}}\n' for number in range(documents))
    if files == 1:
        with open(folder / "corpus.jsonl", "w") as file:
            file.writelines(lines)
    else:
        for number, line in enumerate(lines):
            (folder / f"{number:07d}.jsonl").write_text(line)
    return str(folder)


if __name__ == "__main__":
    main()
