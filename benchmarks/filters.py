"""What a filtered search costs beside an unfiltered one.

    python -m benchmarks.filters

A bank is made up of rows as large as real ones (D = 576, K = 15, without text), 1,024 a file. `year` goes with the
order of the rows, as a date often does; `shuffled` holds the same values in no order. Both columns are of whole
numbers, and each filter keeps a tenth of the rows. Seconds are those of the search alone, with the files in the page
cache.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import made_up
from benchmarks.harness import Ratio, Report, interleaved, options
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.search import nearest
from pipeline.bank.where import rows_where

WIDTH, FILE_ROWS = 576, 1024
FILTERS = {
    "a tenth, with the order": "year >= 2090",
    "a tenth, in no order": "shuffled >= 2090",
    "a tenth, and a pattern": "year >= 2090 and doc_id like 'document%'",
    "nothing": "year > 3000",
}


def main() -> None:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--files", type=int, default=50, help="of 1,024 rows; default: %(default)s")
    arguments = parser.parse_args()
    report = Report("filters", arguments.json, rows=arguments.files * FILE_ROWS)
    with tempfile.TemporaryDirectory() as scratch:
        bank = made(Path(scratch), arguments.files)
        searches(report, bank, arguments.rounds)
    report.close()


def searches(report: Report, bank: Bank, rounds: int) -> None:
    query_E = np.random.default_rng(1).normal(size=WIDTH)
    filters = {name: rows_where([text], bank.schema) for name, text in FILTERS.items()}
    sides = {"every row": lambda: nearest(bank, query_E, 5)}
    sides |= {name: lambda rows=rows: nearest(bank, query_E, 5, filter=rows) for name, rows in filters.items()}
    seconds = interleaved(sides, rounds)
    report.line("search of every row, s", round(min(seconds["every row"]), 3))
    for name, rows in filters.items():
        opened = len(list(bank.dataset().get_fragments(rows)))
        report.line(f"files opened of {len(bank.files())}, {name}", opened)
        report.ratio(f"search of {name} / of every row", Ratio.of(seconds[name], seconds["every row"]))


def made(folder: Path, files: int) -> Bank:
    """A bank of `files` commits, a file each."""
    made_up.WIDTH = made_up.EMBEDDING_WIDTH = WIDTH
    identity = replace(made_up.IDENTITY, hidden_width=WIDTH, embedding_width=WIDTH)
    own = (pa.field("year", pa.int64()), pa.field("shuffled", pa.int64()))
    bank = Bank.create(folder / "bank", identity, own)
    years = 2000 + np.arange(files * FILE_ROWS) * 100 // (files * FILE_ROWS)
    columns = (years, np.random.default_rng(0).permutation(years))
    for number in range(files):
        table = made_up.rows(f"u{number}", FILE_ROWS, seed=number)
        for field, values in zip(own, columns, strict=True):
            table = table.append_column(field, pa.array(values[number * FILE_ROWS :][:FILE_ROWS]))
        table = table.select([*schema.row_schema(own).names])
        written = tuple(bank.writer().write(f"u{number}", table))
        commit(bank, [Receipt(f"u{number}", written, 1, FILE_ROWS, 128 * FILE_ROWS)])
    return bank


if __name__ == "__main__":
    main()
