"""Training passages: Parquet or JSONL files to tokenised chunks, once a run, kept in its folder.

JSONL (also .gz) needs only the standard library, so that a machine without pyarrow can train. A file that cannot be
read and a row without text are counted and said; nothing is dropped in silence.
"""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model.refusal import Missing, Refusal
from model.tokens import TextTokenizer
from model.training.passages import write_passages

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
BATCH = 1000  # passages tokenised at once


@dataclass(slots=True)
class Found:
    """What reading came to."""

    passages: int = 0
    textless: int = 0  # rows without a text
    columns: tuple[str, ...] = ()  # of the first of them
    unreadable: list[str] = field(default_factory=list)  # "file: reason"


def passage_files(paths: Sequence[str]) -> list[Path]:
    """Files of the paths (files, folders, globs), sorted. FileNotFoundError names a path that gives none."""
    files: list[Path] = []
    for path in paths:
        if Path(path).is_dir():
            found = [file for suffix in SUFFIXES for file in Path(path).rglob(f"*{suffix}")]
        else:
            found = [Path(path)] if Path(path).is_file() else [Path(name) for name in glob.glob(path, recursive=True)]
        if not found:
            raise Missing(f"no passages at {path}: wanted {', '.join(SUFFIXES)} files, or a folder of them")
        files += found
    return sorted(set(files))


def read_passages(files: Sequence[Path], text_column: str, found: Found) -> Iterator[str]:
    """The texts, file by file; `found` counts."""
    for file in files:
        try:
            for text in _texts(file, text_column, found):
                if isinstance(text, str) and text.strip():
                    found.passages += 1
                    yield text
                else:
                    found.textless += 1
        except (OSError, EOFError, ValueError, zlib.error) as error:
            found.unreadable.append(f"{file}: {' '.join(str(error).split())}")


def prepare_passages(
    paths: Sequence[str],
    folder: Path,
    tokenizer: TextTokenizer,
    *,
    text_column: str,
    chunk_tokens: int,
    min_tokens: int,
    held_out: int,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Tokenise, cut into the chunks that encoding makes, draw the held-out passages, write `folder`.

    Raises ValueError if too little is left to train on.
    """
    found = Found()
    chunks: list[list[np.ndarray]] = []  # a passage each, so that none is both trained on and held out
    short = 0
    for texts in _grouped(read_passages(passage_files(paths), text_column, found)):
        for cut in tokenizer.cut_many(texts, chunk_tokens):
            kept = [chunk for chunk in cut if len(chunk) >= min_tokens]
            short += len(cut) - len(kept)
            if kept:
                chunks.append(kept)
    for line in found.unreadable:
        say(f"left out, not readable: {line}")
    _require_some(found, chunks, short, paths, text_column, min_tokens)
    chosen = [chunks[i] for i in np.random.default_rng(seed).permutation(len(chunks))]
    flat = [chunk for passage in chosen for chunk in passage]
    held = _held_out(chosen, held_out)
    card = {"passages": found.passages, "textless": found.textless, "short": short, "unreadable": found.unreadable}
    write_passages(flat, folder, held_out=held, card=card)
    say(f"{found.passages:,} passages, {len(flat):,} chunks ({held} held out, {short:,} under {min_tokens} tokens)")


def _held_out(passages: list[list[np.ndarray]], wanted: int) -> int:
    """Chunks of the first passages: about `wanted`, at most a tenth of all, at least one passage's."""
    limit = min(wanted, sum(map(len, passages)) // 10)
    held = 0
    for passage in passages:
        if held and held + len(passage) > limit:
            break
        held += len(passage)
    return held


def _require_some(found: Found, chunks: list, short: int, paths: Sequence[str], column: str, shortest: int) -> None:
    where = ", ".join(map(str, paths))
    if not found.passages:
        there = f"; the first row has {', '.join(found.columns)}: --set text_column=NAME" if found.columns else ""
        reason = found.unreadable[0] if found.unreadable else f"no row has text in a column {column!r}{there}"
        raise Refusal(f"no readable passages in {where}: {reason}")
    if len(chunks) < 2:
        passages = "1 passage" if found.passages == 1 else f"{found.passages} passages"
        raise Refusal(
            f"{passages} in {where}, {len(chunks)} with a chunk of {shortest} tokens or more; 2 are wanted, since one "
            "is held out from training: give more, or longer ones, or --set min_tokens=N"
        )


def _texts(file: Path, column: str, found: Found) -> Iterator[object]:
    if file.name.endswith(".parquet"):
        yield from _parquet_texts(file, column)
        return
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                if isinstance(row, dict) and column not in row:
                    found.columns = found.columns or tuple(row)
                yield row.get(column) if isinstance(row, dict) else None


def _parquet_texts(file: Path, column: str) -> Iterator[object]:
    import pyarrow.parquet as pq  # here, so that JSONL needs no pyarrow

    parquet = pq.ParquetFile(file)
    if column not in parquet.schema_arrow.names:
        there = ", ".join(parquet.schema_arrow.names) or "none"
        raise Refusal(f"it has no column {column!r}, its columns are {there}: --set text_column=NAME")
    for batch in parquet.iter_batches(columns=[column]):
        yield from batch.column(0).to_pylist()


def _grouped(texts: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group
