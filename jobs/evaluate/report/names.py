"""Systems' names for tables and plots: a trained system is named by its folder's path, which no axis has room for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from jobs.evaluate.results import Results

PATH = "path"  # where a system's `about` keeps the name that was shortened


def shortened(results: Results) -> Results:
    """The same results; `runs/icae/codec refined 8` is `icae refined 8`, unless two would be called the same."""
    short = {name: _short(name) for name in results.systems}
    often = Counter(short.values())
    names = {name: own if often[own] == 1 else name for name, own in short.items()}

    def new(name: str | None) -> str | None:
        return names.get(name, name) if name is not None else None

    return replace(
        results,
        systems={names[name]: _told(name, names, system) for name, system in results.systems.items()},
        figures=[replace(each, system=new(each.system)) for each in results.figures],
        overall=[replace(each, system=new(each.system)) for each in results.overall],
        differences=[replace(d, system=new(d.system), other=new(d.other)) for d in results.differences],
        heats=[replace(each, system=new(each.system)) for each in results.heats],
        samples=[replace(each, system=new(each.system)) for each in results.samples],
        absent=[each | {"system": new(each["system"]), "why": _said(each["why"], names)} for each in results.absent],
        faults=[each | {"system": new(each["system"])} for each in results.faults],
    )


def _short(name: str) -> str:
    """A run's codec lies in RUN/codec, and the run's name says more."""
    *folders, last = name.split("/")
    if not folders:
        return name
    if last.partition(" ")[0] == "codec" and folders[-1]:
        return folders[-1] + last.removeprefix("codec")
    return last


def _said(why: str, names: dict[str, str]) -> str:
    """Longer names first: one may begin with another."""
    for name in sorted(names, key=len, reverse=True):
        why = why.replace(name, names[name])
    return why


def _told(name: str, names: dict[str, str], system: dict) -> dict:
    about = system.get("about") or {}
    base = system.get("base")
    path = {} if names[name] == name else {PATH: name}
    return system | {"about": path | about, "base": names.get(base, base)}
