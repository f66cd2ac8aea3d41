"""Files of an evaluation as rows: Parquet and JSON lines."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

from model.refusal import Refusal

TABLES = (".parquet", ".jsonl", ".jsonl.gz")
PREFIXES = ("eval_", "passages_", "retrieval_")


def is_table(path: Path) -> bool:
    return path.is_file() and path.name.endswith(TABLES)


def name_of(path: Path) -> str:
    """A set's name: its file's, without what tells the kind."""
    name = next((path.name.removesuffix(s) for s in reversed(TABLES) if path.name.endswith(s)), path.name)
    return next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name)


def rows_of(file: Path) -> list[dict]:
    """Refusal for a file that cannot be read, or whose lines are no objects."""
    try:
        if file.name.endswith(".parquet"):
            import pyarrow.parquet as pq

            return pq.read_table(file).to_pylist()
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise Refusal(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise Refusal(f"{file} holds lines that are no JSON objects")
    return rows
