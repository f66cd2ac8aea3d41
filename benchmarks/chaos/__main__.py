"""Break a real encode job in every way we know: is every chunk there exactly once, and what did it cost?

    python -m benchmarks.chaos                              the whole matrix
    python -m benchmarks.chaos --only encoder --phase tail  some of it
    python -m benchmarks.chaos --only merge                 a command that changes a bank, killed at each moment

Each cell starts several Ray nodes on this machine (fake GPUs, two-layer backbone, sample articles), starts `nextmem
encode`, breaks something, lets the same command finish, and compares the bank with that of an unbroken run. The
backbone is slowed down to 20 ms a chunk, so that there is something to hit. Exits 1 where a cell is not whole.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos.cells import Cell, cells, run_cell
from benchmarks.chaos.place import place
from benchmarks.chaos.scene import stage
from benchmarks.chaos.verbs import VERBS, Broken, run_verb
from benchmarks.harness import machine

VERB_HEAD = "| verb | killed | bank then | once more | exit code | seconds | note |"
HEAD = "| fault | struck | result | lost | doubled | again | redone | recovery s | seconds | note |"


def main() -> None:
    arguments = _arguments()
    wanted = [(f, p) for f, p in cells() if arguments.only in f.name and arguments.phase in p]
    with tempfile.TemporaryDirectory(prefix="nextmem-chaos-") as scratch:
        folder = Path(arguments.keep or scratch)
        fine = _verbs(folder / "verbs", arguments)
        if not wanted:
            sys.exit(not fine)
        base = stage(folder)
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(f"unbroken: {base.whole.total()} chunks in {base.seconds:.0f} s\n\n{HEAD}\n{'|---' * 10}|", flush=True)
        done = []
        for fault, phase in wanted:
            done.append(run_cell(base, fault, phase))
            print(row(done[-1]), flush=True)
    if arguments.json:
        print(json.dumps([asdict(cell) for cell in done]))
    sys.exit(not fine or any(not cell.fine for cell in done))


def _verbs(folder: Path, arguments: argparse.Namespace) -> bool:
    """The rows of commands that change a bank; whether all of them are whole."""
    wanted = [
        (verb, moment)
        for verb in VERBS
        for moment in verb.moments
        if arguments.only in verb.name and arguments.phase in moment
    ]
    if not wanted:
        return True
    folder.mkdir(parents=True)
    base = place(folder)
    print(f"{VERB_HEAD}\n{'|---' * 7}|", flush=True)
    done = []
    for verb, moment in wanted:
        done.append(run_verb(verb, base, moment))
        print(verb_row(done[-1]), flush=True)
    return all(each.whole for each in done)


def verb_row(done: Broken) -> str:
    result = "whole" if done.whole else "BROKEN"
    words = [
        done.verb,
        done.moment,
        done.between,
        result,
        done.code,
        f"{done.seconds:.0f}",
        " ".join(done.note.split()),
    ]
    return "| " + " | ".join(str(word) for word in words) + " |"


def row(cell: Cell) -> str:
    judged = cell.judged
    figures = ["-"] * 5
    if judged is not None:
        recovery = "-" if cell.recovery is None else f"{cell.recovery:.1f}"
        figures = [judged.lost, judged.doubled, judged.again, f"{100 * judged.redone:.1f} %", recovery]
    times = f"{cell.times} x" if cell.times > 1 else ""
    words = [
        cell.fault,
        f"{cell.phase} {times}".strip() or "-",
        cell.result,
        *figures,
        f"{cell.seconds:.0f}",
        cell.note,
    ]
    return "| " + " | ".join(str(word) for word in words) + " |"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--phase", default="", help="phases with this in their name")
    parser.add_argument("--keep", metavar="DIR", help="keep banks and logs in this new folder")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
