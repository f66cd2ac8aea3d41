"""A built index of a bank's embeddings, beside the table: FAISS lists of near rows, of which a search reads a few.

    BANK/_index/<hash of the live files>/  vectors.faiss  places.arrow  about.json

It fits one set of live files. When the bank has changed, a search says so and reads every row. Both files are mapped
into memory, so that a search reads what it touches. Shapes: N rows, E embedding width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.refusal import Unavailable
from pipeline.bank.bank import INDEX, Bank
from pipeline.bank.search import Hit, hits, order, unit_queries

FORMAT = 1
VECTORS, PLACES, ABOUT = "vectors.faiss", "places.arrow", "about.json"
MISSING = "an index needs the package faiss-cpu, which is not installed: pip install 'nextmem[index]'"
AGAIN = "every row is read; `nextmem index` builds it anew"


@dataclass(frozen=True, slots=True)
class About:
    """What an index says of itself."""

    table: str  # the bank's id
    version: int  # of the bank, when it was built
    files: str  # hash of the bank's live files
    rows: int
    lists: int  # the rows are sorted into so many
    probes: int  # of which a search reads so many
    recall: float  # share of the true ten nearest that a search finds, over `asked` mixes of two rows
    asked: int
    sizes: dict[str, int]  # bytes of the other files
    format: int = FORMAT


class Index:
    """An index that fits the bank as it is."""

    def __init__(self, bank: Bank, folder: Path, about: About):
        self.bank, self.about = bank, about
        library = faiss()
        self._vectors = library.read_index(str(folder / VECTORS), library.IO_FLAG_MMAP)
        self._vectors.nprobe = about.probes
        with pa.memory_map(str(folder / PLACES)) as source:
            self._places = pa.ipc.open_file(source).read_all()
        if not self._vectors.ntotal == self._places.num_rows == about.rows:
            raise ValueError(f"{self._vectors.ntotal} vectors, {self._places.num_rows} places, {about.rows} rows")

    def nearest(self, query_E: np.ndarray, k: int) -> list[Hit] | None:
        """As pipeline/bank/search.py's, of the lists that are read; None where they hold fewer than are to be had."""
        unit_1E = unit_queries(self.bank, np.asarray(query_E, np.float64)[None], k).astype(np.float32)
        scores_1k, rows_1k = self._vectors.search(unit_1E, min(k, self.about.rows))
        found = rows_1k[0] >= 0
        if not found.all():
            return None
        return sorted(hits(self._places, rows_1k[0], scores_1k[0]), key=order)


def open_index(bank: Bank, say: Callable[[str], object] = lambda line: None) -> Index | None:
    """The index that fits this version. None where there is none; where there is one that cannot serve, `say` why."""
    if not bank.folder.is_local:
        return None
    folders = sorted(Path(bank.folder.uri, INDEX).glob(f"*/{ABOUT}"))
    if not folders:
        return None
    fitting = folder_of(bank) / ABOUT
    path = fitting if fitting in folders else folders[-1]
    try:
        about = _read(path)
        if why := _unfit(bank, about, path.parent):
            say(f"the index of {bank.folder.uri} {why}: {AGAIN}")
            return None
        return Index(bank, path.parent, about)
    except Unavailable as error:
        say(f"{error}. Until then every row is read.")
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()
        say(f"the index of {bank.folder.uri} is torn ({reason[-1] if reason else type(error).__name__}): {AGAIN}")
    return None


def folder_of(bank: Bank) -> Path:
    """Where the index lies that fits this version, if there is one."""
    return Path(bank.folder.uri, INDEX, files_hash(bank))


def files_hash(bank: Bank) -> str:
    """Of the live files' names, which their content decides."""
    return hashlib.blake2b("\n".join(bank.files()).encode(), digest_size=16).hexdigest()


def write_about(about: About, folder: Path) -> None:
    (folder / ABOUT).write_text(json.dumps(asdict(about), indent=2) + "\n")


def faiss():
    """The library. Raises Unavailable where it is not installed."""
    try:
        import faiss as library
    except ImportError:
        raise Unavailable(MISSING) from None
    return library


def _read(path: Path) -> About:
    values = json.loads(path.read_text())
    return About(**{field.name: values[field.name] for field in fields(About)})


def _unfit(bank: Bank, about: About, folder: Path) -> str | None:
    if about.format != FORMAT:
        return f"has format {about.format}, this nextmem reads {FORMAT}"
    if about.table != bank.table.metadata().id:
        return "was built for another bank"
    if about.files != files_hash(bank):
        return f"is of version {about.version}, and the rows have changed up to version {bank.version}"
    torn = [name for name, size in about.sizes.items() if (folder / name).stat().st_size != size]
    return f"is torn ({torn[0]} is not as long as it was)" if torn else None
