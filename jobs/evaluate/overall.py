"""One figure for all sets together: the mean over sets, with an interval that resamples each set by itself.

Sets weigh alike, however many items each has. Only what was measured on more than one set has such a figure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from jobs.evaluate import bootstrap
from jobs.evaluate.results import Difference, Figure
from jobs.evaluate.tasks.answer import READER

SETS = "all sets"  # what stands for a set's name
Values = list[float | None]
Key = tuple[str, str, str]  # system, metric, conditions
OfSets = list[dict[Key, Values]]


def overall(figures: Sequence[Figure], *, draws: int, seed: int) -> list[Figure]:
    """A figure for each system, metric and condition that has several sets, gaps among them."""
    found: list[Figure] = []
    for task, of_sets in _by_task(figures).items():
        for (system, metric, at), span in _spans(of_sets, draws, seed).items():
            found.append(_figure(task, system, metric, json.loads(at), span))
        found += _gaps(task, of_sets, draws, seed)
    return found


def overall_differences(figures: Sequence[Figure], first: str, *, draws: int, seed: int) -> list[Difference]:
    """`first` less every other system, item by item, over the sets where both were measured alike."""
    found = []
    for task, of_sets in _by_task(figures).items():
        less = [_less(own, first) for own in of_sets]
        for (other, metric, at), s in _spans(less, draws, seed).items():
            found.append(Difference(task, first, other, SETS, metric, s.value, s.low, s.high, s.n, json.loads(at)))
    return found


def _by_task(figures: Sequence[Figure]) -> dict[str, OfSets]:
    """Values by task, set and key, in the order in which they were measured."""
    of_tasks: dict[str, dict[str, dict[Key, Values]]] = {}
    for each in figures:
        if any(value is not None for value in each.values):
            key = (each.system, each.metric, json.dumps(each.at, sort_keys=True))
            of_tasks.setdefault(each.task, {}).setdefault(each.set, {})[key] = each.values
    return {task: list(of_sets.values()) for task, of_sets in of_tasks.items()}


def _spans(of_sets: OfSets, draws: int, seed: int) -> dict[Key, bootstrap.Interval]:
    """Of the keys that several sets have. All of them at once: they share their draws, and one product makes them."""
    keys = [key for key in dict.fromkeys(k for own in of_sets for k in own) if sum(key in own for own in of_sets) > 1]
    if not keys:
        return {}
    columns = [[own.get(key) for key in keys] for own in of_sets]
    return dict(zip(keys, bootstrap.over_sets(columns, draws=draws, seed=seed), strict=True))


def _less(own: dict[Key, Values], first: str) -> dict[Key, Values]:
    """`first` less each other system, an item where both have a value."""
    found = {}
    for (system, metric, at), values in own.items():
        mine = own.get((first, metric, at))
        if system != first and mine is not None:
            gaps = [None if a is None or b is None else a - b for a, b in zip(mine, values, strict=True)]
            if any(gap is not None for gap in gaps):
                found[system, metric, at] = gaps
    return found


def _gaps(task: str, of_sets: OfSets, draws: int, seed: int) -> list[Figure]:
    """Of answering: the mean over sets of how much of the way from nothing to the text a memory goes."""
    text, nothing = ((READER, "nats", json.dumps({"from": source})) for source in ("text", "nothing"))
    whole = [own for own in of_sets if text in own and nothing in own and own[text] != own[nothing]]
    keys = dict.fromkeys(key for own in whole for key in own if key[1] == "nats" and key[0] != READER)
    found = []
    for system, metric, at in keys:
        some = [(own[nothing], own[text], own[system, metric, at]) for own in whole if (system, metric, at) in own]
        if len(some) > 1:
            span = bootstrap.gap_over_sets(some, draws=draws, seed=seed)
            found.append(_figure(task, system, "gap", json.loads(at), span))
    return found


def _figure(task: str, system: str, metric: str, at: dict, span: bootstrap.Interval) -> Figure:
    return Figure(task, system, SETS, metric, span.value, span.low, span.high, span.n, at)
