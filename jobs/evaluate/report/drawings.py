"""Which plots an evaluation's figures make, each with the sentence that stands under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from jobs.evaluate.report.charts import SERIES, Dot, Line, dots, heat, lines
from jobs.evaluate.report.paper import known_set, reported
from jobs.evaluate.report.tables import Column, mean_of
from jobs.evaluate.results import Figure, Results

PAPERS = ("NextMem-Dense", "ICAE", "DyPRAG", "BGE")  # its rows that are drawn
HEATS = 4  # drawn at most
SHARE = (-0.02, 1.02)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Inline SVG and what a reader must know to read it."""

    svg: str
    caption: str


def reconstruction(results: Results) -> list[Drawing]:
    """F1 and the share of names and numbers, a row a system."""
    mean = "The dot is the mean over sets with its interval, the strokes are the sets"
    return _present(
        _ranked(results, "reconstruct", "f1", {}, label="F1", caption=f"{mean}, the squares the paper's means."),
        _ranked(results, "reconstruct", "names", {}, label="names and numbers", caption=f"{mean}."),
    )


def retrieval(results: Results, pool: str) -> list[Drawing]:
    """Hit@5 in one pool; the two are never comparable."""
    captions = {
        "question": "Among the references of that question alone, as in the paper (squares).",
        "corpus": "Among all passages of the set: what a search has to do.",
    }
    at = {"pool": pool}
    return _present(_ranked(results, "retrieve", "hit@5", at, label="Hit@5", caption=captions[pool]))


def answering(results: Results) -> list[Drawing]:
    """Gap closed, a row for each system and source."""
    chosen = [f for f in results.figures if (f.task, f.metric) == ("answer", "gap")]
    rows = []
    for system, source in dict.fromkeys((f.system, str(f.at.get("from"))) for f in chosen):
        at = {"from": source}
        values = [f.value for f in chosen if f.system == system and f.at == at]
        mean = mean_of(results, system, Column("", "answer", "gap", at))
        spread = {"low": mean.low, "high": mean.high} if mean.low < mean.high else {}
        rows.append(Dot(f"{system}, {source}", mean.value, **spread, parts=values, series=_series(results, system)))
    caption = "0: no better than no context. 1: as good as the text. Below 0: worse than nothing."
    return _present(Drawing(dots(rows, label="gap closed"), caption) if rows else None)


def noise(results: Results) -> list[Drawing]:
    return _present(_curves(results, "noise", "sigma", x="noise, in each channel's deviations", caption=(
        "Gaussian noise on the latents. The paper's stand noise up to 0.8 and collapse from 1.6.")))  # fmt: skip


def length(results: Results) -> list[Drawing]:
    caption = "Texts of other lengths through the same number of latents."
    return _present(_curves(results, "length", "tokens", x="tokens of the text", caption=caption, log=True))


def rate(results: Results) -> list[Drawing]:
    """F1 against what a text takes, a curve for each number of bits a value."""
    chosen = [f for f in results.figures if (f.task, f.metric) == ("rate", "f1")]
    caption = "Fewer latents, or fewer bits a value. Right and up costs more and gives more."
    kinds = {(f.system, f.at.get("bits")) for f in chosen}
    curves = []
    for place, (system, bits) in enumerate(sorted(kinds, key=str)):
        own = [f for f in chosen if (f.system, f.at.get("bits")) == (system, bits)]
        curves.append(_curve(f"{system}, {bits} bits", own, "bytes", place % len(SERIES)))
    return _present(Drawing(lines(curves, x="bytes a text", y="F1", log=True), caption) if curves else None)


def segments(results: Results) -> list[Drawing]:
    """Where a sentence's change shows: the diagonal, where latents hold places in order."""
    return [
        Drawing(
            heat(each.rows, x="latent", y="place in the text", label=f"{each.system}, {each.set}"),
            f"{sum(each.swaps)} sentences with other names. The latent that moves most is within one of the expected "
            f"in {each.within1:.0%}, within two in {each.within2:.0%}.",
        )
        for each in results.heats[:HEATS]
    ]


def _present(*drawings: Drawing | None) -> list[Drawing]:
    return [drawing for drawing in drawings if drawing is not None]


def _ranked(results: Results, task: str, metric: str, at: dict, *, label: str, caption: str) -> Drawing | None:
    """A row a system: its mean over sets. None where nothing was measured."""
    chosen = [f for f in results.figures if (f.task, f.metric) == (task, metric) and f.at == at]
    rows = []
    for name in dict.fromkeys(f.system for f in chosen):
        own = [f.value for f in chosen if f.system == name]
        mean = mean_of(results, name, Column(label, task, metric, at))
        spread = {"low": mean.low, "high": mean.high} if mean.low < mean.high else {}
        parts = own if len(own) > 1 else ()
        rows.append(Dot(name, mean.value, **spread, series=_series(results, name), parts=parts))
    rows += _papers(chosen, reported(task, metric, at)) if rows else []
    return Drawing(dots(rows, label=label, limits=SHARE), caption) if rows else None


def _series(results: Results, system: str) -> int:
    """A system's colour, the same in every plot."""
    return list(results.systems).index(system) % len(SERIES) if system in results.systems else 0


def _papers(figures: Sequence[Figure], told: dict[str, dict[str, float]]) -> list[Dot]:
    """The paper's means over those of its sets that were measured here."""
    sets = {known_set(f.set) for f in figures}
    means = {name: [value for own, value in told.get(name, {}).items() if own in sets] for name in PAPERS}
    return [Dot(f"paper: {name}", None, paper=fmean(values)) for name, values in means.items() if values]


def _curves(results: Results, task: str, along: str, *, x: str, caption: str, log: bool = False) -> Drawing | None:
    """F1 of each system along one condition, means over sets."""
    chosen = [f for f in results.figures if (f.task, f.metric) == (task, "f1") and along in f.at]
    names = list(dict.fromkeys(f.system for f in chosen))
    curves = [_curve(n, [f for f in chosen if f.system == n], along, _series(results, n)) for n in names]
    return Drawing(lines(curves, x=x, y="F1", log=log), caption) if curves else None


def _curve(name: str, figures: Sequence[Figure], along: str, series: int) -> Line:
    places: dict[float, list[Figure]] = defaultdict(list)
    for figure in figures:
        places[float(figure.at[along])].append(figure)
    xs = sorted(places)

    def means(part: Callable[[Figure], float]) -> list[float]:
        return [fmean(map(part, places[at])) for at in xs]

    one_set = len({f.set for f in figures}) == 1
    low = means(lambda f: f.low) if one_set else ()
    high = means(lambda f: f.high) if one_set else ()
    return Line(name, xs, means(lambda f: f.value), low, high, series=series)
