"""Training a codec from Python: the same run that the command trains."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.cluster.session import set_variables
from jobs.train.run_folder import system_of
from model.refusal import Refusal


def train(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    init: str | os.PathLike[str] | None = None,
    backbone: str | None = None,
    stages: str | None = None,
    workers: int = 1,
    gpus: bool = False,
    pool: str | None = None,
    ray: bool = True,
    minutes: float | None = None,
    change: bool = False,
    export: str | os.PathLike[str] | None = None,
    system: str | None = None,
    on_progress: Callable[[dict], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
    **settings: object,
) -> Path | None:
    """Train a codec in the run folder; the same call again goes on where it stopped.

    Returns the codec's folder, or None where `minutes` were over before the end. `data`: passages as Parquet or JSONL,
    needed for a new run only. `system`: a baseline to train in a codec's place (docs/evaluation.md). `init`: a codec
    folder to start from. `ray=False` trains in this process. `change=True` goes on with other settings than the run's.
    `export`: train no further, write the latest checkpoint's codec there. `on_progress` is told of each measured step
    (a row of the run's metrics.jsonl), `say` what else a person may want to read. `settings` are those of
    docs/settings.md, by name.

    `system="head"` teaches an embedding head instead, on the latents of the banks that `data` names (docs/search.md).
    `system="reader"` trains a reader of the latents of the codec `init`, which stays as it is (docs/agent.md).

    Raises ValueError, FileNotFoundError or OSError for what a person can mend, TypeError for a setting that does not
    exist.
    """
    set_variables()
    given = tuple(os.fspath(path) for path in ((data,) if isinstance(data, str | os.PathLike) else data))
    if system == "head":
        from jobs.train.head import HeadRequest, run_head

        return run_head(HeadRequest(os.fspath(run), given, settings), on_progress=on_progress, say=say)
    if (system or system_of(os.fspath(run))) == "reader":
        from jobs.train.reader import ReaderRequest, run_reader

        _require_alone(backbone=backbone, stages=stages, pool=pool, workers=None if workers == 1 else workers)
        own = None if init is None else os.fspath(init)
        out = None if export is None else os.fspath(export)
        asked = ReaderRequest(os.fspath(run), given, own, settings, minutes, change, out)
        return run_reader(asked, on_progress=on_progress, say=say)
    from jobs.train.train import TrainRequest, run_train

    request = TrainRequest(
        run=os.fspath(run),
        data=given,
        backbone=backbone,
        stages=stages,
        init=None if init is None else os.fspath(init),
        settings=settings,
        workers=workers,
        gpus=gpus,
        pool=pool,
        use_ray=ray,
        minutes=minutes,
        change=change,
        export=None if export is None else os.fspath(export),
        system=system,
    )
    return run_train(request, on_progress=on_progress, say=say)


def _require_alone(**given: object) -> None:
    """A reader trains in one process, on the backbone of its codec."""
    odd = [name for name, value in given.items() if value is not None]
    if odd:
        raise Refusal(f"a reader trains in one process, on its codec's backbone: leave out {', '.join(odd)}")
