"""One folder, on a local disk or an object store, and the only ways we change it: put a whole file, remove a file.

A file put here is there whole or not at all (pipeline/storage.py). `storage_options` are delta-rs' own names
(AWS_REGION, ...): the log goes through delta-rs and the files through pyarrow, and on s3:// both get the same ones.
(delta-rs' own pyarrow file system reads, but cannot write.)
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from pipeline import storage

_S3_OPTIONS = {
    "aws_access_key_id": "access_key",
    "aws_secret_access_key": "secret_key",
    "aws_session_token": "session_token",
    "aws_region": "region",
    "aws_endpoint_url": "endpoint_override",
}


class Folder:
    """Names are relative to the folder and use forward slashes. The folder need not exist yet."""

    def __init__(self, uri: str | os.PathLike, storage_options: dict[str, str] | None = None):
        self.uri = _plain(os.fspath(uri))
        self.storage_options = storage_options
        self._filesystem: fs.FileSystem | None = None

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def filesystem(self) -> fs.FileSystem:
        """A pyarrow filesystem whose root is this folder."""
        if self._filesystem is None:
            self._filesystem = fs.SubTreeFileSystem(*reversed(_resolved(self.uri, self.storage_options)))
        return self._filesystem

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a whole file, over the one of that name if there is one."""
        if self.is_local:
            storage.write_whole(f"{self.uri}/{name}", content)
        else:
            with self.filesystem.open_output_stream(name) as sink:
                sink.write(content)

    def read(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(name) as source:
            return source.read()

    def size(self, name: str) -> int | None:
        """Bytes in the file, None where there is no such file."""
        return self.filesystem.get_file_info(name).size

    def names(self, under: str = "", recursive: bool = False) -> list[str]:
        """The files under a folder, sorted; none where there is no such folder."""
        selector = fs.FileSelector(under, allow_not_found=True, recursive=recursive)
        return sorted(info.path for info in self.filesystem.get_file_info(selector) if info.is_file)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is fine."""
        if self.size(name) is not None:
            self.filesystem.delete_file(name)

    def put_folder(self, source: str | os.PathLike, name: str) -> None:
        """Copy a local folder's files to `name/`, each whole."""
        for path in sorted(Path(source).rglob("*")):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(source).as_posix()}", path.read_bytes())


def _resolved(uri: str, storage_options: dict[str, str] | None) -> tuple[fs.FileSystem, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), uri
    options = {name.lower(): value for name, value in (storage_options or {}).items()}
    given = {ours: options[theirs] for theirs, ours in _S3_OPTIONS.items() if theirs in options}
    if "://" in given.get("endpoint_override", ""):
        given["scheme"], given["endpoint_override"] = given["endpoint_override"].split("://")
    if uri.startswith("s3://") and given:
        return fs.S3FileSystem(**given), uri.removeprefix("s3://")
    return fs.FileSystem.from_uri(uri)  # with the environment's credentials


def _plain(uri: str) -> str:
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    return uri.rstrip("/") if "://" in uri else os.path.abspath(uri)
