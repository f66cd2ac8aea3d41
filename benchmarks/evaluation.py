"""The README's table and plot, and those of docs/evaluation.md, made anew from an evaluation's results.json.

    nextmem evaluate default untrained text bm25 minilm --data SETS --tasks all --limit 100 --refine 8 -o OUT
    python -m benchmarks.evaluation OUT/results.json

It writes docs/evaluation.svg, and in both texts what stands between the marks; all else stays. The README has few
columns and rows: of a codec what a bank stores, of the paper what its plots have.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from jobs.evaluate.report.drawings import PAPERS, reconstruction
from jobs.evaluate.report.names import shortened
from jobs.evaluate.report.picture import standalone
from jobs.evaluate.report.tables import Cell, Row, Table, overview
from jobs.evaluate.results import Results, read_results

ROOT = Path(__file__).parents[1]
README, DOCS, PICTURE = ROOT / "README.md", ROOT / "docs" / "evaluation.md", ROOT / "docs" / "evaluation.svg"
BEGIN, END = "<!-- made by benchmarks.evaluation -->", "<!-- end -->"
FEW = ("F1", "whole", "names and numbers", "patch, bytes", "nDCG@10, corpus", "gap closed, decoded")  # in the README


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="OUT/results.json")
    results = shortened(read_results(parser.parse_args().results))
    drawing = reconstruction(results)[0]
    PICTURE.write_text(standalone(drawing.svg), encoding="utf-8")
    table = overview(results)
    few = markdown(main_rows(table, results), FEW)
    README.write_text(between(README.read_text(encoding="utf-8"), few), encoding="utf-8")
    text = "\n".join([*about(results), "", markdown(table, table.columns, intervals=True)])
    DOCS.write_text(between(DOCS.read_text(encoding="utf-8"), text), encoding="utf-8")


def main_rows(table: Table, results: Results) -> Table:
    """Without dense rows, and without those of the paper that no plot has."""
    dense = {name for name, system in results.systems.items() if (system["about"] or {}).get("form") == "dense"}
    rows = [row for row in table.rows if (row.name in PAPERS if row.paper else row.name not in dense)]
    return Table(table.columns, rows, table.caption)


def about(results: Results) -> list[str]:
    """What was measured, on what, and when: lines that stand above the table."""
    made, names = results.made, [name for name in results.sets if name != "mixed"]
    return [
        f"Means over {len(names)} sets ({', '.join(names)}), at most {made['limit']} texts, questions and",
        f"queries each; {made['processor']}, threads: {made['threads']}, {str(made['date'])[:10]}.",
        "In brackets: half of what the 95 % interval spans. Rows in italics are the paper's, on Qwen3-8B.",
    ]


def markdown(table: Table, columns: tuple[str, ...] | list[str], *, intervals: bool = False) -> str:
    """Some columns of a table. A row that has none of them is left out."""
    there = [name for name in columns if name in table.columns]
    lines = ["| system | " + " | ".join(there) + " |", "|---" * (len(there) + 1) + "|"]
    for row in table.rows:
        cells = [row.cells[table.columns.index(name)] for name in there]
        if any(cell.text for cell in cells):
            lines.append(f"| {_name(row)} | " + " | ".join(_cell(cell, intervals) for cell in cells) + " |")
    return "\n".join(lines)


def between(text: str, made: str) -> str:
    """The text with what was made between its marks. ValueError where it has none."""
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the text has no {BEGIN} ... {END}: put the two marks where the table belongs")
    return marked.sub(lambda _: f"{BEGIN}\n{made}\n{END}", text, count=1)


def _name(row: Row) -> str:
    return f"*paper: {row.name}*" if row.paper else row.name


def _cell(cell: Cell, intervals: bool) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} ({cell.interval})" if intervals and cell.interval else text


if __name__ == "__main__":
    main()
