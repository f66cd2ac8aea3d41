"""Columns that a folder's name holds, as Hive, Spark and DuckDB lay tables out: `year=2023/part-0.parquet`."""

from __future__ import annotations

from urllib.parse import unquote

from pipeline.corpus.corpus import InputFile

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions(file: InputFile) -> dict[str, str | None]:
    """{column: value} of the folders around a file; the innermost counts. Values are text, unquoted once."""
    pairs = (folder.partition("=") for folder in file.uri.split("/")[:-1] if "=" in folder)
    return {unquote(name): None if value == _NULL else unquote(value) for name, _, value in pairs if name}
