"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable

import click


def as_json_option(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")(command)


def pool_option(command: Callable) -> Callable:
    return click.option("--pool", metavar="NAME", help="Only nodes with the label pool=NAME, as in cluster.yaml.")(
        command
    )
