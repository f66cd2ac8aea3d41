"""Encoding a corpus from Python: the same Ray job that the command runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jobs.settings import EncodeSettings, replaced
from model.config import CodecConfig

if TYPE_CHECKING:
    from jobs.encode.progress import EncodeProgress

    from jobs.encode.encode import EncodeResult


def encode(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    bank: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str] | None = None,
    backbone: str | None = None,
    text_column: str = "text",
    id_column: str | None = None,
    columns: Sequence[str] = (),
    keep_text: bool = False,
    verify: bool = True,
    actors: int | None = None,
    gpus: bool | None = None,
    pool: str | None = None,
    on_progress: Callable[[EncodeProgress], object] | None = None,
    **settings: object,
) -> EncodeResult:
    """Encode files, folders or globs (Parquet, JSONL, text; also `hf:NAME`) into a memory bank.

    The same call again goes on after a crash, or adds what is new. Without `codec` it is the bank's own, or the
    backbone's default. `columns` are carried into the bank. `on_progress` is told how far the job is, about once a
    second. `settings` are those of docs/settings.md, by name. RAY_ADDRESS joins a cluster; without it Ray runs here
    until the call returns.

    The result tells what was done and what was left out; `result.complete` is False where anything was. Raises
    ValueError, FileNotFoundError or OSError for what a person can mend, TypeError for a setting that does not exist.
    """
    from jobs.encode.encode import run_encode
    from jobs.encode.request import EncodeJob
    from pipeline.corpus.documents import Columns

    given = (corpus,) if isinstance(corpus, str | os.PathLike) else tuple(corpus)
    chosen, config = replaced(settings, EncodeSettings(), CodecConfig())
    job = EncodeJob(
        corpus=tuple(os.fspath(path) for path in given),
        bank=os.fspath(bank),
        columns=Columns(text=text_column, id=id_column, carry=tuple(columns)),
        settings=chosen,
        config=config,
        codec=None if codec is None else os.fspath(codec),
        backbone=backbone,
        actors=actors,
        gpus=gpus,
        pool=pool,
        keep_text=keep_text,
        verify=verify,
    )
    return run_encode(job, on_progress=on_progress)
