"""A bank's live rows as others open them: all of it or nothing, in a new folder.

Each target has a file of its own here: `write`, the package that it NEEDS, the parts that it ALWAYS has, whether it
STREAMS_TO_STORES, and the lines that open what it wrote.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from model.refusal import Refusal, Taken, Unavailable
from pipeline.bank.bank import Bank
from pipeline.bank.enclosing import refuse_inside_a_table
from pipeline.bank.opened import load_bank_codec
from pipeline.export import duckdb, faiss, huggingface, lance, parquet
from pipeline.export.readme import readme
from pipeline.export.rows import Rows
from pipeline.storage import storage
from pipeline.storage.folder import Folder

if TYPE_CHECKING:
    from model.codec import Codec

TARGETS = {"parquet": parquet, "hf": huggingface, "lance": lance, "faiss": faiss, "duckdb": duckdb}
ABOUT = "__about__"  # pyarrow, pandas and DuckDB pass over names with one underscore, `datasets` over those with two


@dataclass(frozen=True, slots=True)
class Exported:
    """What `export` wrote."""

    files: tuple[str, ...]
    rows: int
    bytes: int


def export(
    bank: Bank,
    out_dir: str | os.PathLike,
    to: str = "parquet",
    *,
    parts: Sequence[str] | None = None,
    filter: pc.Expression | None = None,
    load_codec: Callable[[], Codec] | None = None,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> Exported:
    """Write the rows that `filter` is true of for one of TARGETS, and OUT/__about__/ with bank.json and README.md.

    `parts` are those of rows.py; where a target needs one more, it is there too. All of it or nothing, streaming. On an
    object store __about__/bank.json comes last: where it is, the rest is. `on_rows` is told of so many rows more.
    Raises Taken for a file, for a folder that holds anything, and for one inside a bank; Refusal for a target or part
    that there is not; Unavailable where the target's package is not installed; InexactRecall for a row whose text was
    asked for and is not exact.
    """
    uri = _place(to, out_dir)
    wanted = parts if parts is None else tuple(dict.fromkeys([*parts, *TARGETS[to].ALWAYS]))
    rows = Rows(bank, load_codec or (lambda: load_bank_codec(bank)), wanted, filter, on_rows)
    return _remote(rows, Folder(uri), to) if storage.is_remote(uri) else _local(rows, Path(uri), to)


def _place(to: str, out_dir: str | os.PathLike) -> str:
    target, uri = TARGETS.get(to), storage.absolute(os.fspath(out_dir))
    if target is None:
        raise Refusal(f"there is no export to {to!r}: choose one of {', '.join(TARGETS)}")
    if target.NEEDS and importlib.util.find_spec(target.NEEDS) is None:
        raise Unavailable(f"an export to {to} needs the package {target.NEEDS}: pip install 'nextmem[{to}]'")
    if storage.is_remote(uri) and not target.STREAMS_TO_STORES:
        raise Refusal(f"an export to {to} is made on a local disk, not at {uri}: name a folder there, and copy it")
    refuse_inside_a_table(uri, "an export")
    if storage.exists(uri) and not storage.stat(uri).is_folder:
        raise Taken(f"{uri} is a file, and an export is a folder: name another one")
    if Folder(uri).names(recursive=True) or (not storage.is_remote(uri) and os.path.isdir(uri) and os.listdir(uri)):
        raise Taken(f"{uri} is not empty: export into a new folder")
    return uri


def _local(rows: Rows, out: Path, to: str) -> Exported:
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        exported = _write(rows, Folder(draft), to)
        draft.chmod(0o755)
        os.replace(draft, out)  # onto an empty folder or none
        return exported
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _remote(rows: Rows, out: Folder, to: str) -> Exported:
    try:
        return _write(rows, out, to)
    except BaseException:
        for name in out.names(recursive=True):
            out.remove(name)
        raise


def _write(rows: Rows, folder: Folder, to: str) -> Exported:
    bank, files = rows.bank, _written(rows, folder, to)
    size = sum(found or 0 for found in folder.sizes(files).values())
    about = {"bank": bank.folder.uri, "version": bank.version, "rows": rows.count, "files": files}
    about |= {"codec": asdict(bank.identity), "columns": {field.name: str(field.type) for field in rows.schema}}
    folder.put(f"{ABOUT}/README.md", readme(rows, TARGETS[to].OPENING).encode())
    folder.put(f"{ABOUT}/bank.json", (json.dumps(about, indent=2) + "\n").encode())
    return Exported(tuple(files), rows.count, size)


def _written(rows: Rows, folder: Folder, to: str) -> list[str]:
    try:
        return TARGETS[to].write(rows, folder)
    except Exception:
        if rows.fault is not None:
            raise rows.fault from None  # as it was, where a library told it as its own
        raise
