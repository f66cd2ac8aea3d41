"""Outcomes become figures: intervals, differences, gaps, and the samples that are worth a look."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jobs.evaluate import bootstrap
from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.results import Difference, Figure, Heat, Sample
from jobs.evaluate.tasks.answer import READER

WORST, MIDDLE, BEST = 4, 2, 1  # samples of a set


@dataclass(slots=True)
class Figures:
    """Of all cells so far. `items`: of a task on a set; every system was put to the same ones."""

    items: dict[str, list[str]] = field(default_factory=dict)
    heats: list[Heat] = field(default_factory=list)
    _measured: list[tuple[str, str, str, Measured]] = field(default_factory=list)
    _samples: list[Sample] = field(default_factory=list)

    def add(self, task: str, system: str, data: str, outcome: Outcome) -> None:
        if not outcome.ids:
            return
        if self.items.setdefault(f"{task}/{data}", outcome.ids) != outcome.ids:
            raise ValueError(f"{system} was measured on other items of {data} than the systems before it")
        self.heats += outcome.heats
        self._samples += outcome.samples
        self._measured += [(task, system, data, each) for each in outcome.measured]

    def drawn(self, *, draws: int, seed: int) -> list[Figure]:
        """Every figure with its interval, gaps among them; one without any value is left out."""
        found = []
        for task, system, data, each in self._measured:
            if any(value is not None for value in each.values):
                span = bootstrap.interval(each.values, draws=draws, seed=seed)
                found.append(_figure(task, system, data, each.metric, each.at, span, each.values))
        return found + list(self._gaps(draws, seed))

    def differences(self, first: str, *, draws: int, seed: int) -> list[Difference]:
        """`first` less every other system, wherever both were measured alike."""
        mine = {_place(*each): each[3].values for each in self._measured if each[1] == first}
        found = []
        for task, system, data, each in self._measured:
            own = mine.get(_place(task, system, data, each))
            if system == first or own is None or not _share_items(own, each.values):
                continue
            span = bootstrap.difference(own, each.values, draws=draws, seed=seed)
            found.append(
                Difference(task, first, system, data, each.metric, span.value, span.low, span.high, span.n, each.at)
            )
        return found

    def chosen_samples(self) -> list[Sample]:
        """Of each set the items that come back worst, some in the middle and the best, by all systems' mean F1."""
        grouped: dict[tuple[str, str], dict[str, list[Sample]]] = {}
        for sample in self._samples:
            grouped.setdefault((sample.task, sample.set), {}).setdefault(sample.id, []).append(sample)
        return [s for of_item in grouped.values() for name in _chosen(of_item) for s in of_item[name]]

    def _gaps(self, draws: int, seed: int) -> Iterator[Figure]:
        nats = {
            (data, system, str(each.at["from"])): each.values
            for task, system, data, each in self._measured
            if task == "answer" and each.metric == "nats"
        }
        for (data, system, source), values in nats.items():
            text, nothing = nats.get((data, READER, "text")), nats.get((data, READER, "nothing"))
            if system == READER or text is None or nothing is None or text == nothing:
                continue
            span = bootstrap.gap_closed(nothing, text, values, draws=draws, seed=seed)
            yield _figure("answer", system, data, "gap", {"from": source}, span, [])


def _figure(task: str, system: str, data: str, metric: str, at: dict, span: bootstrap.Interval, values: list) -> Figure:
    return Figure(task, system, data, metric, span.value, span.low, span.high, span.n, at, values)


def _place(task: str, system: str, data: str, each: Measured) -> tuple:
    """Where a figure stands, whichever system's it is. What a condition came to (a norm, bytes) is the system's own."""
    own = ("norm", "bits", "bytes")
    return task, data, each.metric, tuple(sorted((k, v) for k, v in each.at.items() if k not in own))


def _share_items(left: Sequence, right: Sequence) -> bool:
    return any(a is not None and b is not None for a, b in zip(left, right, strict=True))


def _chosen(of_item: dict[str, list[Sample]]) -> list[str]:
    order = sorted(of_item, key=lambda name: (statistics.fmean(s.f1 for s in of_item[name]), name))
    middle = len(order) // 2
    return list(dict.fromkeys([*order[:WORST], *order[middle : middle + MIDDLE], *order[-BEST:]]))
