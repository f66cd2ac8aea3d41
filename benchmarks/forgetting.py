"""Forgetting in a bank of an 8B backbone's rows: what each verb takes, and what tombstones cost whoever comes after.

    python -m benchmarks.forgetting --units 8 --documents 1000000

The rows are made up, 36 KB each: a unit is a file of 74 MB with 256 documents of 8 chunks. Then a plan of that many
documents is held against a bank with none, one and many of them forgotten.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa

from benchmarks.harness import Report, options
from benchmarks.made_up import CHUNKS, empty_bank, rows
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.commit import Receipt, commit, swap
from pipeline.bank.forget import forget
from pipeline.bank.forgotten import forgetting
from pipeline.bank.tend import tend
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode.bank_work import bank_work
from pipeline.plan.plan import Plan, plan_corpus

CHUNKS_A_DOCUMENT = 8
MANY = 100_000  # tombstones


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--documents", type=int, default=1_000_000)
    arguments = parser.parse_args()
    report = Report("forgetting", arguments.json)
    with tempfile.TemporaryDirectory() as scratch:
        bank, _ = empty_bank(Path(scratch), 1)
        _verbs(report, bank, arguments.units)
        _planning(report, bank, Path(scratch), arguments.documents)
    report.line("memory of this process", psutil.Process().memory_info().rss / 1e6, "MB")
    report.close()


def _verbs(report: Report, bank: Bank, units: int) -> None:
    late = _unit(bank, "late")
    for number in range(units):
        commit(bank, [_unit(bank, f"unit-{number}")])
    report.line("rows", bank.count())
    report.line("files", bank.stored_bytes() / 1e6 / units, "MB each")
    _timed(report, "forget: a dry run", lambda: forget(bank, ["unit-0/7"], dry_run=True))
    _timed(report, "forget: one document, so one file", lambda: forget(bank, ["unit-0/7"]))
    _timed(report, "undo", lambda: bring_back(bank))
    every = [f"unit-{number}/7" for number in range(units)]
    _timed(report, "forget: one document of each file", lambda: forget(bank, every))
    _timed(report, "a unit's commit that looks at tombstones", lambda: commit(bank, [late]))
    _timed(report, "tend --now", lambda: tend(bank, orphan_hours=1, version_hours=168, now=True))


def _planning(report: Report, bank: Bank, folder: Path, documents: int) -> None:
    plan = _plan(folder, documents)
    _timed(report, "what a bank lacks, nothing forgotten", lambda: plan.against(bank.documents()))
    for count in (1, MANY):
        assert swap(bank, [], {}, forgetting(bank, [str(number) for number in range(count)]))
        opened = Bank.open(bank.folder.uri)
        work = _timed(report, f"the same, {count:,} forgotten", lambda bank=opened: bank_work(plan, bank))
        assert work.counts.forgotten == count


def _plan(folder: Path, documents: int) -> Plan:
    corpus = folder / "corpus.jsonl"
    with corpus.open("w") as file:
        file.writelines(json.dumps({"id": str(n), "text": f"Document {n}."}) + "\n" for n in range(documents))
    return plan_corpus([str(corpus)], ColumnRoles(), unit_chunks=CHUNKS, folder=str(folder / "plan"))


def _unit(bank: Bank, unit_id: str) -> Receipt:
    """A unit of many documents, written and not committed."""
    table = rows(unit_id, CHUNKS)
    ids = pa.array([f"{unit_id}/{row // CHUNKS_A_DOCUMENT}" for row in range(CHUNKS)])
    places = pa.array([row % CHUNKS_A_DOCUMENT for row in range(CHUNKS)], pa.int32())
    for name, values in ((schema.DOC_ID, ids), (schema.POSITION, places)):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)
    files = tuple(bank.writer().write(unit_id, table))
    return Receipt(unit_id, files, documents=CHUNKS // CHUNKS_A_DOCUMENT, chunks=CHUNKS, tokens=128 * CHUNKS)


def _timed(report: Report, name: str, run: Callable):
    start = time.perf_counter()
    found = run()
    report.line(name, time.perf_counter() - start, "s")
    return found


if __name__ == "__main__":
    main()
