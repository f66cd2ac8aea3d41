"""What an evaluation prints: a bar while it runs, and a table a task and set when it is done."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from jobs.output import emit, interval, share, table
from nextmem.commands.options import say

if TYPE_CHECKING:
    from jobs.evaluate.evaluate import EvaluateProgress
    from jobs.evaluate.results import Figure, Results

READER = "reader"


class Bar:
    """Cells done of how many, an estimate of the end, and what the one at work is doing. There once there is one."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._shown = 0.0  # when: a cell may take long, and what it is doing is to be seen

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, now: EvaluateProgress) -> None:
        if self._bar is None:
            self._bar = tqdm(total=now.of, unit="cell", file=sys.stderr, mininterval=1e9, leave=False)
        part = f", {now.verb} {now.made}/{now.wanted}" if now.wanted else ""
        self._bar.set_description_str(now.cell + part, refresh=False)
        self._bar.n = now.done
        if time.monotonic() - self._shown >= interval():
            self._bar.refresh()
            self._shown = time.monotonic()


def show(results: Results, *, as_json: bool) -> None:
    """Figures on stdout, faults and what is absent on stderr."""
    if as_json:
        _emit(results)
    else:
        for task, name in dict.fromkeys((figure.task, figure.set) for figure in results.figures):
            some = [f for f in results.figures if (f.task, f.set) == (task, name)]
            (_reconstructed if task == "reconstruct" else _listed)(task, name, some, results)
    for task, why in dict.fromkeys((each["task"], each["why"]) for each in results.absent):  # once, not for each set
        say(f"absent: {task}: {why}")
    for each in results.faults:
        say(f"failed: {' '.join(filter(None, (each['task'], each['system'], each['set'])))}: {each['error']}")


def _emit(results: Results) -> None:
    for f in results.figures:
        emit(
            {"event": "figure", "task": f.task, "set": f.set, "system": f.system, "at": f.at, "metric": f.metric}
            | {"value": f.value, "low": f.low, "high": f.high, "n": f.n}
        )


def _reconstructed(task: str, name: str, figures: list[Figure], results: Results) -> None:
    """Six figures a system."""
    of = {(f.system, f.metric): f for f in figures}
    guess = of.get((READER, "fidelity"))
    for system in dict.fromkeys(f.system for f in figures if f.system != READER):
        mine = {f.metric: f for f in figures if f.system == system}
        rows = [
            ("set", f"{name}: {mine['f1'].n} texts, {system}"),
            ("F1", _spanned(mine["f1"])),
            ("whole", f"{share(mine['whole'].value)} of texts come back whole"),
        ]
        if "names" in mine:
            rows.append(("names", f"{share(mine['names'].value)} of capitalised words and numbers come back"))
        if "fidelity" in mine:
            without = f", {share(guess.value)} without a memory" if guess else ""
            rows.append(("fidelity", f"{share(mine['fidelity'].value)} of positions right{without}"))
        if "patch_bytes" in mine:
            patch = statistics.median(value for value in mine["patch_bytes"].values if value is not None)
            rows.append(("patch", f"{patch:.0f} bytes (median)"))
        table(rows)
        click.echo()


def _listed(task: str, name: str, figures: list[Figure], results: Results) -> None:
    """A line a system and condition, a column a metric."""
    click.echo(f"{task}, {name}")
    lines: dict[str, dict[str, str]] = {}
    for f in figures:
        at = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in f.at.items())
        lines.setdefault(f"{f.system}, {at}" if at else f.system, {})[f.metric] = f"{f.value:.3f}"
    metrics = list(dict.fromkeys(f.metric for f in figures))
    width = max(map(len, lines))
    click.echo("  ".join([" " * width, *(f"{metric:>9}" for metric in metrics)]))
    for line, values in lines.items():
        click.echo("  ".join([f"{line:<{width}}", *(f"{values.get(metric, ''):>9}" for metric in metrics)]))
    click.echo()


def _spanned(figure: Figure) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f} with 95 %)"
