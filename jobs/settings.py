"""`--set KEY=VALUE`: every knob that has no flag of its own, typed by the field's default."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from model.config import RefineConfig
from model.refusal import Refusal

Configs = typing.TypeVarTuple("Configs")


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """Knobs of `nextmem encode` beside its flags."""

    precision: str = "auto"  # fp32, bf16, or what the device multiplies fastest
    margin: float | None = None  # logits; None: the precision's own
    merged: bool = True  # adapters added to the backbone's weights
    batch_size: int | None = None  # chunks at once; None: by device
    unit_chunks: int | None = None  # chunks a work unit; None: 2,048; on a CPU 64 in fp32, 128 in bf16
    threads: int | None = None  # of each encoder on a CPU; None: cores over encoders
    spot_check_rows: int = 16  # that the encoders recall of their first units, to say "exact" of; 0: none
    check: str = "listing"  # what an input file is known by: size and times; or "content", a hash of its bytes
    commit_seconds: float = 5.0
    stall_minutes: float = 60.0  # without anything encoded or committed, after which the job ends with an error
    price_per_hour: float | None = None  # of one worker, for the cost in the summary
    chunks_per_second: float | None = None  # of one worker, for --dry-run; None: measured
    log_file: str | None = None  # the driver's log, JSON lines
    metrics_port: int | None = None  # of the Ray started for this job; None: a free one

    def __post_init__(self):
        if self.precision not in ("auto", "fp32", "bf16"):
            raise Refusal(f"precision is {self.precision!r}; it must be auto, fp32 or bf16")
        if self.check not in ("listing", "content"):
            raise Refusal(f"check is {self.check!r}; it must be listing or content")
        for name in ("batch_size", "unit_chunks", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.spot_check_rows < 0:
            raise Refusal(f"spot_check_rows is {self.spot_check_rows}; it must be 0 or more")
        if self.chunks_per_second is not None and not 0 < self.chunks_per_second < math.inf:
            raise Refusal(f"chunks_per_second is {self.chunks_per_second}; it must be more than 0")
        if self.metrics_port is not None and not 0 < self.metrics_port < 65536:
            raise Refusal(f"metrics_port is {self.metrics_port}; it must be between 1 and 65535")
        for name in ("margin", "commit_seconds", "stall_minutes", "price_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise Refusal(f"{name} is {value}; it must be 0 or more")


@dataclass(frozen=True, slots=True)
class RefineSettings:
    """Knobs of refining, of `nextmem encode` and `nextmem refine` alike."""

    refine_most: int = 24  # steps a chunk with --refine auto
    refine_batch: int | None = None  # chunks refined at once; None: by device

    def __post_init__(self):
        for name in ("refine_most", "refine_batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise Refusal(f"{name} is {getattr(self, name)}; it must be at least 1")

    @typing.overload
    def config(self, asked: int | str) -> RefineConfig: ...

    @typing.overload
    def config(self, asked: None) -> None: ...

    def config(self, asked: int | str | None) -> RefineConfig | None:
        """What --refine STEPS|auto means; None where it was not given."""
        if asked is None:
            return None
        return RefineConfig(asked if isinstance(asked, int) else self.refine_most, self.refine_batch)


@dataclass(frozen=True, slots=True)
class TendSettings:
    """Knobs of `nextmem tend`."""

    orphan_hours: int = 1  # how long ago a file that was never committed must have been written, to be removed
    version_hours: int = 168  # how long ago a file must have left the table: readers of older versions need it

    def __post_init__(self):
        for name in ("orphan_hours", "version_hours"):
            if getattr(self, name) < 0:
                raise Refusal(f"{name} is {getattr(self, name)}; it must be 0 or more")


def apply_settings(pairs: Sequence[str], *configs: *Configs) -> tuple[*Configs]:
    """Each KEY=VALUE into the first config that has the field. ValueError names what is unknown or ill-typed."""
    return replaced(typed_settings(pairs, *configs), *configs)


def typed_settings(pairs: Sequence[str], *configs: object) -> dict[str, object]:
    """KEY=VALUE as values of the fields' types. ValueError names what is unknown or ill-typed."""
    known = {name: kind for config in reversed(configs) for name, kind in _types(config).items()}
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in known:
            raise Refusal(f"--set {pair}: wanted KEY=VALUE with one of the keys {', '.join(sorted(known))}")
        found[key] = _typed(key, value, known[key])
    return found


def replaced(values: Mapping[str, object], *configs: *Configs) -> tuple[*Configs]:
    """The configs with these values, each in the first one that has the field. TypeError for a name that none has."""
    changes: list[dict[str, object]] = [{} for _ in configs]
    for name, value in values.items():
        owner = next((i for i, config in enumerate(configs) if name in _types(config)), None)
        if owner is None:
            known = sorted(known for config in configs for known in _types(config))
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise TypeError(f"there is no setting {name!r}: {hint}")
        changes[owner][name] = value
    return tuple(dataclasses.replace(config, **change) for config, change in zip(configs, changes, strict=True))


def _types(config: object) -> dict[str, object]:
    hints = typing.get_type_hints(type(config))
    return {field.name: hints[field.name] for field in fields(config)}


def _typed(key: str, value: str, wanted: object) -> object:
    choices = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value.lower() == "none" and type(None) in choices:
        return None
    kind = next(choice for choice in choices if choice is not type(None))
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind is bool:
            raise ValueError
        return kind(value)
    except ValueError:
        raise Refusal(f"--set {key}={value}: wanted a value of type {kind.__name__}") from None
