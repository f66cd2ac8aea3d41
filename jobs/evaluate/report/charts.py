"""Plots as inline SVG that take the page's colours, so that one drawing serves light, dark and print.

matplotlib draws with colours that stand for CSS variables; they are put in its place afterwards. Text stays text.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK, FAINT, PAPER = "#010101", "#020202", "#030303"  # text, grid, what the paper reports
SERIES = tuple(f"#04040{i}" for i in range(8))
VARIABLES = {INK: "--ink", FAINT: "--faint", PAPER: "--paper"} | {c: f"--s{i}" for i, c in enumerate(SERIES)}
WIDTH = 5.0  # inches, 360 units of the SVG: as wide as a phone, so that its letters are never scaled down
STYLE = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK, "grid.color": FAINT, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dot:
    """A row of a dot plot. `low`, `high`: its interval; `paper`: the paper's value, if it has one."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    paper: float | None = None
    series: int = 0
    parts: Sequence[float] = ()  # what the value is the mean of, set by set


@dataclass(frozen=True, slots=True)
class Line:
    """A curve with a band; NaN-free. `low` and `high` are empty where there are no intervals."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    series: int = 0


def dots(rows: Sequence[Dot], *, label: str, limits: tuple[float, float] | None = None) -> str:
    """One row a name, from top to bottom."""

    def draw(axes):
        for place, row in enumerate(rows):
            if row.paper is not None:
                axes.plot(row.paper, place, marker="s", markersize=8, markeredgecolor=PAPER, markerfacecolor="none")
            if row.value is None:
                continue
            axes.plot(row.parts, [place] * len(row.parts), "|", color=SERIES[row.series], markersize=9, alpha=0.5)
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=SERIES[row.series], linewidth=2, alpha=0.6)
            axes.plot(row.value, place, marker="o", color=SERIES[row.series], markersize=6)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(limits)
        axes.set_xlabel(label)
        axes.grid(axis="both")

    return _drawn(draw, height=0.9 + 0.29 * len(rows), says=f"{label}, a row a system")


def lines(curves: Sequence[Line], *, x: str, y: str, log: bool = False) -> str:
    """Curves over one axis, named in a legend below."""

    def draw(axes):
        for curve in curves:
            colour = SERIES[curve.series]
            axes.plot(curve.x, curve.y, marker="o", markersize=4, color=colour, label=curve.name)
            if len(curve.low):
                axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low) if low < -0.06 else 0.0, max(high, 0.1))
        axes.grid(True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, fontsize=9)

    return _drawn(draw, height=3.0 + 0.22 * -(-len(curves) // 2), says=f"{y} against {x}")


def heat(cells: Sequence[Sequence[float] | None], *, x: str, y: str, label: str) -> str:
    """A matrix, its first row on top; opacity says how much, of the largest. A row that is None stays empty."""
    largest = max((value for row in cells for value in row or ()), default=0.0) or 1.0
    width = max(len(row or ()) for row in cells)

    def draw(axes):
        for place, row in enumerate(cells):
            for column, value in enumerate(row or ()):
                corner = (column - 0.5, place - 0.5)
                axes.add_patch(
                    Rectangle(corner, 1, 1, facecolor=SERIES[0], alpha=max(0.0, value / largest), linewidth=0)
                )
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(len(cells) - 0.5, -0.5)
        axes.set_xticks(range(width), range(1, width + 1), fontsize=8)
        axes.set_yticks(range(len(cells)), range(1, len(cells) + 1), fontsize=8)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(label, fontsize=10)

    return _drawn(draw, height=min(5.0, 1.2 + 0.25 * len(cells)), says=f"{label}: {y} against {x}")


def _drawn(draw, *, height: float, says: str) -> str:
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        file = io.StringIO()
        with rc_context({"svg.hashsalt": "nextmem"}):
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _for_the_page(file.getvalue(), says)


def _for_the_page(svg: str, says: str) -> str:
    """The <svg> element alone, in the page's colours and letters, as wide as there is room."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.S)
    opening = f'<svg viewBox="\\1" role="img" aria-label="{html.escape(says)}">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', opening, svg, count=1)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r" ?\n(?=[LMQCz])", " ", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.strip()
