"""The few storage verbs NextMem needs, the same for a local path and for a URI (`s3://bucket/key`, `gs://`, ...).

A write is whole or absent: locally a temporary dot-name in the same folder, fsync, rename, fsync of the folder; on an
object store one put, which shows nothing before it is complete. Local files go through `os` so that an OSError carries
its errno and its path (disk full, no permission); URIs go through `pyarrow.fs`, s3:// with s3.py's settings.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from model.refusal import Refusal
from pipeline.storage import s3

TEMPORARY = ".tmp-"  # how a file begins that is not whole yet; left behind only by a writer that was killed


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder. `mtime_ns` is the store's own last-modified time; a folder has size 0.

    `ctime_ns`: when a local file's inode was last changed, which no program sets as it likes; 0 on an object store.
    """

    uri: str
    name: str  # the last component
    is_folder: bool
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    leads_to: str | None = None  # of a link whose target is gone


def is_remote(uri: str) -> bool:
    return "://" in uri and not uri.startswith("file://")


def absolute(uri: str) -> str:
    """The URI as it is, or the absolute local path: workers run in another folder than the command.

    ValueError for a file:// URI that names more than a local path.
    """
    if is_remote(uri):
        return uri.rstrip("/")
    return os.path.abspath(_path_of(uri) if uri.startswith("file://") else uri)


def _path_of(uri: str) -> str:
    """A file:// URI's path. What stands after a bare `#` or `?` is no part of it by the rules: nobody means that."""
    parts = urlsplit(uri)
    if "?" in uri or "#" in uri or parts.netloc not in ("", "localhost"):
        raise Refusal(f"{uri} is no local path: write file:///path, with # as %23 and ? as %3F, or the path itself")
    return unquote(parts.path)


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """The pyarrow filesystem of a path or URI, and the path inside it.

    Raises ValueError for an unknown scheme and for a bucket of S3 that does not exist.
    """
    if not is_remote(uri):
        return fs.LocalFileSystem(), absolute(uri)
    scheme, _, rest = uri.partition("://")
    path, _, query = rest.partition("?")
    bucket, _, _ = path.partition("/")
    if s3.is_s3(uri) and not query:
        return s3.filesystem(bucket), path.strip("/")
    return _filesystem(f"{scheme}://{bucket}" + (f"?{query}" if query else "")), path.strip("/")


def join(uri: str, *parts: str) -> str:
    """`uri/part/part`; a URI's `?query` (an endpoint, a region) stays at the end."""
    path, mark, query = uri.partition("?") if is_remote(uri) else (uri, "", "")
    return "/".join([path.rstrip("/"), *parts]) + mark + query


def parent(uri: str) -> str:
    path, mark, query = uri.partition("?") if is_remote(uri) else (uri, "", "")
    return path.rstrip("/").rpartition("/")[0] + mark + query


def stat(uri: str) -> Entry:
    """What stands at a path. FileNotFoundError if nothing does."""
    if not is_remote(uri):
        return _local_entry(Path(absolute(uri)))
    filesystem, path = resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(2, "No such file or folder", uri)
    return _remote_entry(uri, info)


def exists(uri: str) -> bool:
    try:
        stat(uri)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def entries(uri: str) -> list[Entry]:
    """What one folder holds, in the order in which a recursive walk meets full paths sorted as strings."""
    if is_remote(uri):
        filesystem, path = resolve(uri)
        infos = filesystem.get_file_info(fs.FileSelector(path))
        found = [_remote_entry(join(uri, info.base_name), info) for info in infos]
    else:
        with os.scandir(absolute(uri)) as scan:
            found = [_local_entry(Path(item.path)) for item in scan if _is_plain(item)]
    return sorted(found, key=lambda entry: entry.name + "/" * entry.is_folder)


def listing(uri: str, enter: Callable[[Entry], bool] = lambda folder: True) -> Iterator[Entry]:
    """Every file below a folder, sorted by full path; holds one folder a level in memory. Symbolic links are followed,
    but not in circles. Folders that `enter` refuses are left out."""
    yield from _walk(absolute(uri), enter, ())


def open_input(uri: str) -> BinaryIO:
    """A buffered, seekable stream of a file's bytes."""
    if not is_remote(uri):
        return open(absolute(uri), "rb", buffering=1 << 20)
    filesystem, path = resolve(uri)
    return io.BufferedReader(filesystem.open_input_file(path), 1 << 20)


def read_bytes(uri: str) -> bytes:
    with open_input(uri) as stream:
        return stream.read()


def write_whole(uri: str, data: bytes) -> None:
    """The file holds exactly `data`, or is as it was. Missing folders are made."""
    with whole_file(uri) as file:
        file.write(data)


@contextmanager
def whole_file(uri: str) -> Iterator[BinaryIO]:
    """A file to write to that appears under its name when the block ends without an exception, and not before.

    For a URI the bytes wait in a local temporary file: a pyarrow output stream would complete the upload on close even
    while an exception passes (apache/arrow#40502).
    """
    if not is_remote(uri):
        with _renamed_into(Path(absolute(uri))) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        filesystem, path = resolve(uri)
        if filesystem.type_name not in ("s3", "gcs", "abfs"):  # an object store has no folders to make
            filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with filesystem.open_output_stream(path, compression=None) as out:  # the default packs a .gz name's bytes
            shutil.copyfileobj(file, out, 8 << 20)


@contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """A local path with the file's bytes for the length of the block: its own where it is local, else a temporary copy.

    For what is read in many small pieces, each of which would be a request.
    """
    if not is_remote(uri):
        yield absolute(uri)
        return
    with tempfile.NamedTemporaryFile(prefix="nextmem-") as copy:
        with open_input(uri) as source:
            shutil.copyfileobj(source, copy, 8 << 20)
        copy.flush()
        yield copy.name


def delete(uri: str) -> None:
    """Remove one file; a file that is already gone is no error."""
    if not is_remote(uri):
        Path(absolute(uri)).unlink(missing_ok=True)
        return
    filesystem, path = resolve(uri)
    if filesystem.get_file_info(path).type != fs.FileType.NotFound:
        filesystem.delete_file(path)


@lru_cache(maxsize=64)
def _filesystem(base: str) -> fs.FileSystem:
    try:
        return fs.FileSystem.from_uri(base)[0]
    except pa.ArrowInvalid as error:
        raise Refusal(f"{base} cannot be opened: {error}. Give a local path or a URI such as s3://bucket/key") from None


def _walk(uri: str, enter: Callable[[Entry], bool], ancestors: tuple[str, ...]) -> Iterator[Entry]:
    here = uri if is_remote(uri) else os.path.realpath(uri)
    if here in ancestors:
        return
    for entry in entries(uri):
        if not entry.is_folder:
            yield entry
        elif enter(entry):
            yield from _walk(entry.uri, enter, (*ancestors, here))


def _is_plain(item: os.DirEntry) -> bool:
    """Files, folders and links; a pipe or a socket would block whoever opens it."""
    return item.is_symlink() or item.is_file() or item.is_dir()


def _local_entry(path: Path) -> Entry:
    try:
        found, leads_to = path.stat(), None
    except OSError as error:
        if not path.is_symlink() or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        found, leads_to = path.lstat(), os.readlink(path)
    folder = path.is_dir()
    size = 0 if folder else found.st_size
    return Entry(str(path), path.name, folder, size, found.st_mtime_ns, found.st_ctime_ns, leads_to)


def _remote_entry(uri: str, info: fs.FileInfo) -> Entry:
    folder = info.type == fs.FileType.Directory
    return Entry(uri, info.base_name, folder, 0 if folder else info.size, info.mtime_ns or 0)


@contextmanager
def _renamed_into(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # write() does not say where the disk was full
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
