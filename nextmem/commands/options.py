"""What several commands share: options, and a line on stderr."""

from __future__ import annotations

from collections.abc import Callable

import click

AUTO = "auto"

address_option = click.option(
    "--address",
    metavar="URL",
    help="The cluster's dashboard. Default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or http://127.0.0.1:8265.",
)


def as_json_option(command: Callable) -> Callable:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")(command)


def where_option(command: Callable) -> Callable:
    """Its value is a filter: the texts, all of which must hold, or None."""
    return click.option(
        "--where",
        multiple=True,
        metavar="EXPR",
        callback=lambda _, __, texts: texts or None,
        help="Only rows for which EXPR holds: \"year >= 2020 and lang in ('en', 'de')\". Several must all hold.",
    )(command)


def pool_option(command: Callable) -> Callable:
    return click.option("--pool", metavar="NAME", help="Only nodes with the label pool=NAME, as in cluster.yaml.")(
        command
    )


def refine_option(command: Callable) -> Callable:
    return click.option(
        "--refine",
        metavar="STEPS|auto",
        callback=_steps,
        help="Optimizer steps on each chunk's latents, fewer where they are right; auto: until they are.",
    )(command)


def rate_options(command: Callable) -> Callable:
    """`latents` and `bits`: None where they were not given."""
    command = click.option("--bits", type=click.Choice(["4", "3", "2"]), callback=_number, help="Of a stored value.")(
        command
    )
    return click.option(
        "--latents", type=click.IntRange(min=1), metavar="K", help="Store the first K latents of each chunk alone."
    )(command)


def _number(_, __, value: str | None) -> int | None:
    return None if value is None else int(value)


def _steps(_, __, value: str | None) -> int | str | None:
    if value in (None, AUTO):
        return value
    if value.isdecimal() and int(value) > 0:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither a number of steps (1 or more) nor `{AUTO}`")


def say(line: str) -> None:
    """What a person may want to read while results go to stdout."""
    click.echo(line, err=True)
