"""Evaluating from Python: the same measuring that the command does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from jobs.cluster.session import set_variables

if TYPE_CHECKING:
    from jobs.evaluate.evaluate import EvaluateProgress
    from jobs.evaluate.results import Difference, Results


def compare(left: str | os.PathLike[str], right: str | os.PathLike[str]) -> list[Difference]:
    """Paired differences of two evaluations, by their results.json: the left one's systems less the right one's.

    A system is paired with its namesake, or with the only other one that does the task. Raises Refusal where the files
    share nothing, are torn or are not there.
    """
    from pathlib import Path

    from jobs.evaluate.compare import compared

    return compared(Path(left), Path(right))


def evaluate(
    systems: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "default",
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    tasks: str | Sequence[str] = "reconstruct",
    sets: Sequence[str] = (),
    limit: int | None = 200,
    out: str | os.PathLike[str] | None = None,
    refine: int = 0,
    backbone: str | None = None,
    precision: str = "auto",
    models: Mapping[str, str] | None = None,
    prompt: str | None = None,
    judge: tuple[str, str] | None = None,
    text_column: str = "text",
    tokens: int = 128,
    min_tokens: int = 32,
    actors: int = 0,
    draws: int | None = None,
    seed: int = 0,
    command: str = "",
    on_progress: Callable[[EvaluateProgress], object] = lambda now: None,
    say: Callable[[str], object] = lambda line: None,
) -> Results:
    """Put systems to tasks on sets of passages, and measure what comes of it (docs/evaluation.md).

    A system is a codec's folder, `default`, `untrained`, or a baseline's name or folder. `tasks`: names, or "all".
    `limit`: texts, questions and queries of each set; None is all of them. `refine`: optimizer steps, for one more row
    a codec. `out`: a folder that gets results.json and report.html; the same call again goes on there where it was
    stopped. `models`: folders or hub ids of embedders. `prompt`: with {context} and {question}. `judge`: an endpoint's
    base and a model. `actors`: Ray actors that share the work, here or on the cluster that RAY_ADDRESS names; 0: all is
    done in this process.

    What failed stands in `faults` of the result, and the rest is there. Raises Refusal (a ValueError) for an unknown
    task or system, or data that holds nothing.
    """
    from jobs.evaluate.bootstrap import DRAWS
    from jobs.evaluate.evaluate import run_evaluate
    from jobs.evaluate.reader import Prompt
    from jobs.evaluate.request import ALL, TASKS, EvaluateRequest
    from jobs.evaluate.system import Opening

    if actors:
        set_variables()
    named = _strings(tasks)
    request = EvaluateRequest(
        systems=_strings(systems),
        data=_strings(data),
        tasks=TASKS if ALL in named else named,
        sets=tuple(sets),
        limit=limit,
        out=None if out is None else os.fspath(out),
        opening=Opening(backbone=backbone, precision=precision, refine=refine, models=dict(models or {})),
        prompt=Prompt() if prompt is None else Prompt(prompt),
        judge=judge,
        text_column=text_column,
        tokens=tokens,
        min_tokens=min_tokens,
        actors=actors,
        draws=DRAWS if draws is None else draws,
        seed=seed,
        command=command or "nextmem.evaluate(...)",
    )
    return run_evaluate(request, on_progress=on_progress, say=say)


def _strings(given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    some = (given,) if isinstance(given, str | os.PathLike) else tuple(given)
    return tuple(os.fspath(each) for each in some)
