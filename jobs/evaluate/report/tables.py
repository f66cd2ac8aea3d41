"""Figures as tables: a system a row, a set a column, the paper's rows below and named as the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from jobs.evaluate.overall import SETS
from jobs.evaluate.report.paper import known_set, reported
from jobs.evaluate.results import LOWER_IS_BETTER, Difference, Figure, Results

NAMES = {
    "f1": "F1", "rouge1": "ROUGE-1", "rougeL": "ROUGE-L", "bleu": "BLEU", "chrf": "chrF", "edit": "edit similarity",
    "whole": "whole", "names": "names and numbers", "fidelity": "fidelity", "patch_bytes": "patch, bytes",
    "nats": "nats a token", "gap": "gap closed", "exact": "exact match", "contains": "contains it", "judge": "judge",
    "hit@1": "Hit@1", "hit@5": "Hit@5", "hit@10": "Hit@10", "mrr@5": "MRR@5", "mrr@10": "MRR@10",
    "ndcg@10": "nDCG@10", "recall@5": "recall@5", "recall@10": "recall@10",
    "within1": "within 1", "within2": "within 2",
}  # fmt: skip
SPENT = {"encoded": "encode_seconds", "decoded": "decode_seconds", "embedded": "embed_seconds"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as it is printed, and its interval; `best` of its column."""

    text: str = ""
    interval: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """`note`: in small letters after the name."""

    name: str
    cells: list[Cell]
    paper: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are the headings after the system's."""

    columns: list[str]
    rows: list[Row]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the overview: a figure's mean over sets."""

    heading: str
    task: str
    metric: str
    at: dict[str, object]

    def fits(self, figure: Figure) -> bool:
        return (figure.task, figure.metric) == (self.task, self.metric) and self.at.items() <= figure.at.items()


OVERVIEW = (
    Column("F1", "reconstruct", "f1", {}),
    Column("whole", "reconstruct", "whole", {}),
    Column("names and numbers", "reconstruct", "names", {}),
    Column("fidelity", "reconstruct", "fidelity", {}),
    Column("patch, bytes", "reconstruct", "patch_bytes", {}),
    Column("Hit@5, own pool", "retrieve", "hit@5", {"pool": "question"}),
    Column("nDCG@10, corpus", "retrieve", "ndcg@10", {"pool": "corpus"}),
    Column("gap closed, decoded", "answer", "gap", {"from": "decoded"}),
    Column("gap closed, latents", "answer", "gap", {"from": "latents"}),
)


def printed(metric: str, value: float) -> str:
    """As many digits as the figure has a meaning for."""
    if metric == "patch_bytes":
        return f"{value:.0f}"
    return f"{value:.2f}" if metric == "nats" else f"{value:.3f}"


def overview(results: Results) -> Table:
    """The main table: means over sets, then the paper's rows over those of its sets that were measured here."""
    columns = [c for c in OVERVIEW if any(c.fits(f) for f in results.figures)]
    means = {name: [mean_of(results, name, c) for c in columns] for name in results.systems}
    means = {name: some for name, some in means.items() if any(some)}
    rivals = [some for name, some in means.items() if results.systems[name]["kind"] != "text"]
    best = [_best([row[i].value for row in rivals if row[i]], c.metric) for i, c in enumerate(columns)]
    headings = [c.heading for c in columns] + ["stored, bytes", "encodes a text"]
    rows = [
        Row(name, [_summed_cell(f, b) for f, b in zip(some, best, strict=True)] + _costs(results, name))
        for name, some in means.items()
    ]
    return Table(headings, rows + _paper_rows(results.figures, columns))


def mean_of(results: Results, system: str, column: Column) -> Figure | None:
    """The figure over all sets, or that of the only one. An interval only where one was drawn; None: not measured."""
    return summed([f for f in (*results.overall, *results.figures) if f.system == system and column.fits(f)])


def summed(figures: Sequence[Figure]) -> Figure | None:
    """Of one figure on several sets: that over all sets, or the only one, or their mean without an interval."""
    over = [f for f in figures if f.set == SETS] or figures
    if len(over) < 2:
        return over[0] if over else None
    mean = fmean(f.value for f in over)
    return replace(over[0], value=mean, low=mean, high=mean)


def by_set(figures: Iterable[Figure], *, metric: str, caption: str = "", sets: Sequence[str]) -> Table | None:
    """One metric of one task under one condition; None where there is nothing."""
    chosen = {(f.system, f.set): f for f in figures if f.metric == metric}
    if not chosen:
        return None
    columns = [name for name in sets if any(own == name for _, own in chosen)]
    systems = list(dict.fromkeys(system for system, _ in chosen))
    best = [_best([f.value for (who, own), f in chosen.items() if own == name and who != "text"], metric)
            for name in columns]  # fmt: skip
    rows = [
        Row(system, [_figure_cell(chosen.get((system, name)), b) for name, b in zip(columns, best, strict=True)])
        for system in systems
    ]
    any_figure = next(iter(chosen.values()))
    for name, values in reported(any_figure.task, metric, any_figure.at).items():
        cells = [_cell(metric, values.get(known_set(own) or ""), None) for own in columns]
        if any(cell.text for cell in cells):
            rows.append(Row(name, cells, paper=True))
    return Table(columns, rows, caption)


def against(differences: Iterable[Difference], *, metric: str, sets: Sequence[str]) -> Table | None:
    """The first system less each other, item by item; best where the interval leaves 0 out."""
    chosen = {(d.other, d.set): d for d in differences if d.metric == metric}
    if not chosen:
        return None
    columns = [name for name in sets if any(own == name for _, own in chosen)]
    rows = [
        Row(other, [_difference_cell(chosen.get((other, name))) for name in columns])
        for other in dict.fromkeys(other for other, _ in chosen)
    ]
    first = next(iter(chosen.values())).system
    return Table(columns, rows, f"{NAMES[metric]} of {first} less that of")


def several(
    figures: Sequence[Figure],
    metrics: Sequence[str],
    *,
    key: Callable[[Figure], str],
    rivals: Callable[[Figure], bool],
    caption: str,
) -> Table:
    """Metrics as columns, a row for each key: means over sets. Of `rivals` one is the best of a column."""
    keys = list(dict.fromkeys(key(f) for f in figures))
    columns = [m for m in metrics if any(f.metric == m for f in figures)]
    means = {k: [summed([f for f in figures if key(f) == k and f.metric == m]) for m in columns] for k in keys}
    racing = {key(f) for f in figures if rivals(f)}
    best = [
        _best([row[i].value for k, row in means.items() if k in racing and row[i]], metric)
        for i, metric in enumerate(columns)
    ]
    rows = [
        Row(k, [_figure_cell(f, b if k in racing else None) for f, b in zip(row, best, strict=True)])
        for k, row in means.items()
        if any(row)
    ]
    return Table([NAMES.get(metric, metric) for metric in columns], rows, caption)


def costs(results: Results) -> Table:
    """What each system took. A system that made nothing has no row."""
    rows = []
    for name, system in results.systems.items():
        spent = system.get("costs") or {}
        if not any(spent.get(count) for count in SPENT):
            continue
        cells = _costs(results, name)
        for count, seconds in SPENT.items():
            done = spent.get(count)
            cells.append(
                Cell(f"{1000 * spent[seconds] / done:,.0f}" if done and spent.get(seconds) is not None else "")
            )
            cells.append(Cell(_number(done, ",.0f")))
        rows.append(Row(name, cells))
    headings = ["stored, bytes a text", "encodes a text"]
    headings += ["encoding, ms a text", "texts", "decoding, ms a text", "texts", "embedding, ms a text", "texts"]
    return Table(headings, rows)


def _costs(results: Results, name: str) -> list[Cell]:
    spent = results.systems[name].get("costs") or {}
    return [Cell(_number(spent.get("stored_bytes"), ",.0f")), Cell(_number(spent.get("encodes"), ".1f"))]


def _number(value: float | None, form: str) -> str:
    return format(value, form) if value else ""


def _paper_rows(figures: Sequence[Figure], columns: Sequence[Column]) -> list[Row]:
    """Means over the paper's sets that were measured here, where it has a value for each."""
    names = dict.fromkeys(name for c in columns for name in reported(c.task, c.metric, c.at))
    rows = []
    for name in names:
        cells = []
        for c in columns:
            sets = {known_set(f.set) for f in figures if c.fits(f)} - {None}
            values = reported(c.task, c.metric, c.at).get(name, {})
            found = [values[own] for own in sorted(sets) if own in values]
            cells.append(_cell(c.metric, fmean(found) if found else None, None))
        if any(cell.text for cell in cells):
            rows.append(Row(name, [*cells, Cell(), Cell()], paper=True))
    return rows


def _best(values: Sequence[float | None], metric: str) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 2 or min(known) == max(known):
        return None
    return min(known) if metric in LOWER_IS_BETTER else max(known)


def _cell(metric: str, value: float | None, best: float | None) -> Cell:
    return Cell() if value is None else Cell(printed(metric, value), best=value == best)


def _figure_cell(figure: Figure | None, best: float | None) -> Cell:
    if figure is None:
        return Cell()
    interval = f"{printed(figure.metric, figure.low)} to {printed(figure.metric, figure.high)}"
    return Cell(
        printed(figure.metric, figure.value), interval if figure.low < figure.high else "", figure.value == best
    )


def _summed_cell(figure: Figure | None, best: float | None) -> Cell:
    """Narrow, for the table with the most columns: half of what the interval spans."""
    cell = _figure_cell(figure, best)
    return replace(
        cell, interval=f"± {printed(figure.metric, (figure.high - figure.low) / 2)}" if cell.interval else ""
    )


def _difference_cell(each: Difference | None) -> Cell:
    if each is None:
        return Cell()
    interval = f"{each.low:+.3f} to {each.high:+.3f}"
    return Cell(f"{each.value:+.3f}", interval, each.low > 0 or each.high < 0)
