"""A query or a name that begins with "-" is taken for an option: the usage error then says how to give it."""

from __future__ import annotations

from collections.abc import Sequence

import click


def with_hint(error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """The same error, or one with the hint where a word after the command's name begins with a dash.

    `words`: what was given after `nextmem`.
    """
    ctx = error.ctx
    if ctx is None:
        return error
    arguments = [p for p in ctx.command.params if isinstance(p, click.Argument)]
    if not arguments or "--" in words or not any(word.startswith("-") for word in words[1:]):
        return error
    named = [argument.make_metavar(ctx) for argument in arguments]
    hint = f'{named[-1]} that begins with "-" comes after --: {ctx.command_path} [OPTIONS] -- {" ".join(named)}'
    return click.UsageError(f"{error.format_message()} (A {hint})", ctx)
