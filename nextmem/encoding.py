"""Encoding a corpus from Python: the same Ray job that the command runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jobs.cluster.session import set_variables
from jobs.settings import EncodeSettings, RefineSettings, replaced
from model.config import CodecConfig
from model.refusal import Refusal

if TYPE_CHECKING:
    from jobs.encode.encode import EncodeResult
    from jobs.encode.progress import EncodeProgress
    from jobs.encode.request import EncodeRequest


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
    keep_words: bool = False,
    verify: bool = True,
    refine: int | str | None = None,
    latents: int | None = None,
    bits: int | None = None,
    retry_rejected: bool = False,
    actors: int | None = None,
    gpus: bool | None = None,
    pool: str | None = None,
    on_progress: Callable[[EncodeProgress], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
    **settings: object,
) -> EncodeResult:
    """Encode files, folders or globs (Parquet, JSONL, text; also `hf:NAME`) into a memory bank.

    The same call again goes on after a crash, or adds what is new. Without `codec` it is the bank's own, or the
    backbone's default. The bank keeps `columns` as metadata; with `keep_words`, hashed words for search by words.
    `refine`: so many optimizer steps on each chunk's latents, or "auto" until they are right. Rows of a new bank store
    the first `latents` of each chunk, in `bits` (4, 3 or 2) a value (docs/rate.md). `retry_rejected` tries again what
    encoders left out. `on_progress` is told how far the job is, about once a second, `say` what it waits
    for. `settings` are those of docs/settings.md, by name.
    RAY_ADDRESS joins a cluster; without it Ray runs here until the call returns.

    The result tells what was done and what was left out; `result.complete` is False where anything was. Raises
    Refusal (a ValueError) or OSError for what a person can mend, TypeError for a setting that does not exist.
    """
    set_variables()
    from jobs.encode.encode import run_encode

    request = encode_request(
        corpus,
        bank,
        codec=codec,
        backbone=backbone,
        text_column=text_column,
        id_column=id_column,
        columns=columns,
        keep_text=keep_text,
        keep_words=keep_words,
        verify=verify,
        refine=refine,
        latents=latents,
        bits=bits,
        retry_rejected=retry_rejected,
        actors=actors,
        gpus=gpus,
        pool=pool,
        **settings,
    )
    return run_encode(request, on_progress=on_progress, say=say)


def encode_request(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    bank: str | os.PathLike[str],
    *,
    codec: str | os.PathLike[str] | None,
    backbone: str | None,
    text_column: str,
    id_column: str | None,
    columns: Sequence[str],
    keep_text: bool,
    keep_words: bool = False,
    verify: bool,
    refine: int | str | None,
    latents: int | None,
    bits: int | None,
    retry_rejected: bool,
    actors: int | None,
    gpus: bool | None,
    pool: str | None,
    **settings: object,
) -> EncodeRequest:
    """What `encode` asks for, as the job reads it."""
    from jobs.encode.request import EncodeRequest
    from pipeline.corpus.documents import ColumnRoles
    from pipeline.stems import require_stemmer

    given = (corpus,) if isinstance(corpus, str | os.PathLike) else tuple(corpus)
    if keep_words:
        require_stemmer()
    if refine and not verify:
        raise Refusal("refine needs verifying, which says where latents err: leave out verify=False")
    chosen, refining, config = replaced(settings, EncodeSettings(), RefineSettings(), CodecConfig())
    return EncodeRequest(
        corpus=tuple(os.fspath(path) for path in given),
        bank=os.fspath(bank),
        columns=ColumnRoles(text=text_column, id=id_column, metadata=tuple(columns)),
        settings=chosen,
        config=config,
        codec=None if codec is None else os.fspath(codec),
        backbone=backbone,
        actors=actors,
        gpus=gpus,
        pool=pool,
        keep_text=keep_text,
        keep_words=keep_words,
        verify=verify,
        refine=refining.config(refine),
        latents=latents,
        bits=bits,
        retry_rejected=retry_rejected,
    )
