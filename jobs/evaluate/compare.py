"""Two evaluations side by side: paired differences over the items that both measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jobs.evaluate.bootstrap import DRAWS, SEED, difference
from jobs.evaluate.results import Difference, Figure, Results, read_results
from model.refusal import Refusal

Key = tuple[str, str, str, str]  # task, set, metric, conditions


def compared(left: Path, right: Path, *, draws: int = DRAWS, seed: int = SEED) -> list[Difference]:
    """`system` of the left file less `other` of the right one, for all figures that both have item by item.

    A system is paired with its namesake. Where the files share no name, and each has one system that does a task, those
    two are paired. Raises what `read_results` raises, and Refusal where nothing can be paired.
    """
    a, b = read_results(left), read_results(right)
    found = [_difference(*pair, a, b, draws, seed) for pair in _pairs(a, b)]
    known = [each for each in found if each is not None]
    if not known:
        raise Refusal(
            f"{left} and {right} share nothing to compare: no system, or no set and task with the same items. "
            "Evaluate both with the same --data, --tasks and --limit."
        )
    return known


def _pairs(a: Results, b: Results) -> Iterator[tuple[Figure, Figure]]:
    of_a, of_b = _by_key(a), _by_key(b)
    for key, mine in of_a.items():
        others = of_b.get(key, {})
        shared = [name for name in mine if name in others]
        if shared:
            yield from ((mine[name], others[name]) for name in shared)
        elif len(mine) == len(others) == 1:
            yield next(iter(mine.values())), next(iter(others.values()))


def _by_key(results: Results) -> dict[Key, dict[str, Figure]]:
    """Figures that have values item by item; `gap` has one a set, and the nats below it have them."""
    found: dict[Key, dict[str, Figure]] = {}
    for figure in results.figures:
        if figure.values:
            conditions = json.dumps(figure.at, sort_keys=True)
            found.setdefault((figure.task, figure.set, figure.metric, conditions), {})[figure.system] = figure
    return found


def _difference(mine: Figure, other: Figure, a: Results, b: Results, draws: int, seed: int) -> Difference | None:
    """None where no item has a value in both."""
    key = f"{mine.task}/{mine.set}"
    values_a = dict(zip(a.items.get(key, ()), mine.values, strict=False))
    values_b = dict(zip(b.items.get(key, ()), other.values, strict=False))
    shared = [
        item for item in values_a if values_a[item] is not None and values_b.get(item) is not None
    ]  # in the left file's order
    if not shared:
        return None
    found = difference([values_a[i] for i in shared], [values_b[i] for i in shared], draws=draws, seed=seed)
    names = (mine.task, mine.system, other.system, mine.set, mine.metric)
    return Difference(*names, found.value, found.low, found.high, found.n, mine.at)
