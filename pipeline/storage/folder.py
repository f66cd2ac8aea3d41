"""One folder, on a local disk or an object store, and the only ways we change it: put a whole file, remove a file.

A file put here is there whole or not at all (storage.py). The log goes through delta-rs and the files through
pyarrow; on s3:// both are told the same (s3.py). (delta-rs' own pyarrow file system reads, but cannot write.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from pipeline.storage import s3, storage
from pipeline.storage.table_uri import table_uri

CONNECTIONS = 16  # requests at once, where many small ones are to be made


class Folder:
    """Names are relative to the folder and use forward slashes. The folder need not exist yet."""

    def __init__(self, uri: str | os.PathLike):
        self.uri = storage.absolute(os.fspath(uri))
        self._filesystem: fs.FileSystem | None = None

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def filesystem(self) -> fs.FileSystem:
        """A pyarrow filesystem whose root is this folder."""
        if self._filesystem is None:
            self._filesystem = fs.SubTreeFileSystem(*reversed(storage.resolve(self.uri)))
        return self._filesystem

    @property
    def table_uri(self) -> str:
        """The folder as delta-rs is told it. ValueError for one that it would take for another (table_uri.py)."""
        return table_uri(self.uri)

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What delta-rs is told of the store beside the environment; no credentials."""
        if self.is_local:
            return None
        _, path = storage.resolve(self.uri)  # refuses a scheme or a bucket that is not there before delta-rs does
        return s3.delta_options(path.partition("/")[0]) if s3.is_s3(self.uri) else None

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a whole file, over the one of that name if there is one."""
        if self.is_local:
            storage.write_whole(f"{self.uri}/{name}", content)
        else:
            with self.filesystem.open_output_stream(name, compression=None) as sink:
                sink.write(content)

    def read(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(name) as source:
            return source.read()

    def size(self, name: str) -> int | None:
        """Bytes in the file, None where there is no such file."""
        return self.filesystem.get_file_info(name).size

    def sizes(self, names: Iterable[str]) -> dict[str, int | None]:
        """`size` of many files; on an object store many are asked for at once."""
        names = list(names)
        with ThreadPoolExecutor(1 if self.is_local else CONNECTIONS) as pool:
            return dict(zip(names, pool.map(self.size, names), strict=True))

    def read_all(self, names: Iterable[str]) -> list[bytes]:
        """`read` of many small files, in order."""
        with ThreadPoolExecutor(1 if self.is_local else CONNECTIONS) as pool:
            return list(pool.map(self.read, names))

    def names(self, under: str = "", recursive: bool = False) -> list[str]:
        """The files under a folder, sorted; none where there is no such folder."""
        selector = fs.FileSelector(under, allow_not_found=True, recursive=recursive)
        return sorted(info.path for info in self.filesystem.get_file_info(selector) if info.is_file)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""
        if self.size(name) is not None:
            self.filesystem.delete_file(name)

    def remove_folder(self, name: str) -> None:
        """Remove a folder that holds nothing any more. An object store has none."""
        if self.is_local:
            self.filesystem.delete_dir(name)

    def put_folder(self, source: str | os.PathLike, name: str) -> None:
        """Copy a local folder's files to `name/`, each whole."""
        for path, relative in _files(source):
            self.put(f"{name}/{relative}", path.read_bytes())


def folder_hash(source: str | os.PathLike) -> str:
    """32 hex digits over the names and bytes of a local folder's files."""
    digest = hashlib.sha256()
    for path, relative in _files(source):
        with path.open("rb") as file:
            digest.update(f"{relative} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def _files(source: str | os.PathLike) -> list[tuple[Path, str]]:
    """Every file of a local folder and its name there, sorted."""
    paths = (path for path in Path(source).rglob("*") if path.is_file())
    return sorted((path, path.relative_to(source).as_posix()) for path in paths)
