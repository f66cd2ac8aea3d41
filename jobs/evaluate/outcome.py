"""What a task makes of one system and one set, before intervals are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.evaluate.results import Heat, Sample


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric: a value an item, in the order of the outcome's ids; None where an item has none."""

    metric: str
    values: list[float | None]
    at: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`absent`: (metric, why) of what could not be measured here. `faults`: what is wrong though it was measured."""

    ids: list[str]
    measured: list[Measured]
    samples: list[Sample] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)
    absent: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def columns(scores: list[dict[str, float | None]], at: dict[str, object] | None = None) -> list[Measured]:
    """One Measured a metric of dicts, an item each, all with the same metrics."""
    return [Measured(name, [each[name] for each in scores], at or {}) for name in (scores[0] if scores else ())]
