"""MB/s of unit files and of commits, against what 8 H200 make of an 8B backbone: about 100 MB/s.

    python -m benchmarks.write_path --units 16

One process writes units of 2,048 rows of 36 KB (74 MB each), as encoders do, then the driver commits them, then the
small files of a second bank are joined. The rows are made beforehand and are as hard to compress as real ones.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.harness import Report, options
from benchmarks.made_up import CHUNKS, empty_bank, hex32, rows
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.unit_file import WrittenFile
from pipeline.bank.upkeep import compact

NEEDED = 100.0  # MB/s that 8 H200 make: 8 x 340 chunks/s x 36 KB
SMALL_ROWS = 64


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--units", type=int, default=16)
    parser.add_argument("--small", type=int, default=200, help="files to join; default: %(default)s")
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    arguments = parser.parse_args()
    report = Report("write_path", arguments.json)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        _write(report, Path(scratch), arguments.units)
        _join(report, Path(scratch) / "small", arguments.small)
    report.close()


def _write(report: Report, folder: Path, count: int) -> None:
    bank, _ = empty_bank(folder, 1)
    table = rows(hex32("made once"), CHUNKS)
    unit_ids = [hex32(f"unit {number}") for number in range(count)]
    named = [table.set_column(table.schema.get_field_index("unit"), "unit", [[name] * CHUNKS]) for name in unit_ids]
    writer, start = bank.writer(), time.perf_counter()
    written = [writer.write(name, each.cast(table.schema)) for name, each in zip(unit_ids, named, strict=True)]
    seconds, size = time.perf_counter() - start, sum(file.size for files in written for file in files)
    report.line("unit files, one process", size / seconds / 1e6, "MB/s")
    report.line(f"of what 8 H200 make ({NEEDED:.0f} MB/s)", size / seconds / 1e6 / NEEDED, "times")
    start = time.perf_counter()
    commit(bank, [_receipt(name, files) for name, files in zip(unit_ids, written, strict=True)])
    report.line(f"commit of {count} units", time.perf_counter() - start, "s")
    report.line("bytes a row", size / count / CHUNKS, "bytes")


def _join(report: Report, folder: Path, count: int) -> None:
    folder.mkdir()
    bank, _ = empty_bank(folder, 1)
    writer, receipts = bank.writer(), []
    for number in range(count):
        unit_id = hex32(f"small {number}")
        receipts.append(_receipt(unit_id, writer.write(unit_id, rows(unit_id, SMALL_ROWS, seed=number))))
    commit(bank, receipts)
    size, start = bank.stored_bytes(), time.perf_counter()
    went = compact(bank)
    seconds = time.perf_counter() - start
    report.line(f"joining {went} files of {size / count / 1e6:.1f} MB", size / seconds / 1e6, "MB/s")
    report.line("files left", len(Bank.open(bank.folder.uri).files()))


def _receipt(unit_id: str, files: list[WrittenFile]) -> Receipt:
    return Receipt(unit_id, tuple(files), documents=1, chunks=sum(file.num_records for file in files))


if __name__ == "__main__":
    main()
