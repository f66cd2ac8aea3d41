"""A codec folder on an object store becomes a local one, fetched once into the user's cache.

The copy is named by the hash of codec.json, which holds the hashes of the tensors and of the tokenizer, and of
reader.json, where the codec has a reader: another codec under the same address is another copy. Looking costs two
requests.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from model.codec_folder import READER, READER_TENSORS, SETTINGS, TENSORS, TOKENIZER, read_settings
from model.embedded import cache_folder, making
from model.refusal import Missing
from pipeline.storage import storage


def local_codec(uri: str) -> str:
    """The absolute local path of a codec folder. Raises FileNotFoundError where no codec lies, ValueError if torn."""
    uri = storage.absolute(uri)
    if not storage.is_remote(uri):
        return uri
    settings, reader = _fetched(uri, SETTINGS), _reader(uri)
    folder = cache_folder() / "codecs" / f"fetched-{hashlib.sha256(settings + reader).hexdigest()[:32]}"
    if not folder.is_dir():
        with making(folder):
            if not folder.is_dir():
                _fetch(uri, settings, reader, folder)
    return str(folder.absolute())


def _reader(uri: str) -> bytes:
    """The card of the codec's reader; empty where it has none."""
    try:
        return storage.read_bytes(storage.join(uri, READER))
    except FileNotFoundError:
        return b""


def _fetch(uri: str, settings: bytes, reader: bytes, folder: Path) -> None:
    """Into a temporary folder beside it, checked, then renamed: a folder in the cache is a whole one."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (temporary / SETTINGS).write_bytes(settings)
        if reader:
            (temporary / READER).write_bytes(reader)
        for name in (TENSORS, TOKENIZER, *([READER_TENSORS] if reader else [])):
            (temporary / name).write_bytes(_fetched(uri, name))
        read_settings(temporary)
        os.chmod(temporary, 0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fetched(uri: str, name: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, name))
    except FileNotFoundError:
        raise Missing(f"{uri} is not a whole codec folder: {name} is missing. Copy it again.") from None
