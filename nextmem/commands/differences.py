"""What `nextmem evaluate --compare` prints: a line a difference, marked where it is more than chance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from jobs.output import emit

if TYPE_CHECKING:
    from jobs.evaluate.results import Difference


def show_differences(differences: list[Difference], *, as_json: bool) -> None:
    """A star stands where the interval leaves 0 out."""
    if as_json:
        for each in differences:
            emit({"event": "difference"} | dataclasses.asdict(each))
        return
    titles = [_title(each) for each in differences]
    wide, metrics = max(map(len, titles)), max(len(each.metric) for each in differences)
    for title, each in zip(titles, differences, strict=True):
        sure = "*" if each.low > 0 or each.high < 0 else " "
        click.echo(
            f"{title:<{wide}}  {each.metric:<{metrics}}  {each.value:+.4f} {sure} "
            f"({each.low:+.4f} to {each.high:+.4f} with 95 %, {each.n} items)"
        )


def _title(each: Difference) -> str:
    whose = each.system if each.system == each.other else f"{each.system} less {each.other}"
    at = "".join(f", {key} {value:.3g}" if isinstance(value, float) else f", {value}" for key, value in each.at.items())
    return f"{each.task}, {each.set}{at}: {whose}"
