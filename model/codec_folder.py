"""What lies in a codec folder, read without torch: a driver asks for widths and hashes, workers load the tensors."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from model.refusal import Missing, Refusal

FORMAT_VERSION = 1
SETTINGS, TENSORS, TOKENIZER = "codec.json", "codec.safetensors", "tokenizer.json"
READER, READER_TENSORS = "reader.json", "reader.safetensors"  # where the codec has a reader; model/reader.py


def read_settings(folder: str | os.PathLike[str]) -> dict:
    """codec.json, checked. Raises FileNotFoundError for a missing file, ValueError for a torn or foreign one."""
    folder = Path(folder)
    for name in (SETTINGS, TENSORS, TOKENIZER):
        if not (folder / name).is_file():
            raise Missing(f"{folder} is not a whole codec folder: {name} is missing. Copy it again.")
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        version, wanted = settings["format_version"], settings["tensors_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{folder / SETTINGS} is torn or no codec's: {error!r}. Copy the codec folder again.") from None
    if version != FORMAT_VERSION:
        raise Refusal(
            f"{folder} has codec format {version}; this nextmem reads {FORMAT_VERSION}. Install a matching one."
        )
    if file_hash(folder / TENSORS) != wanted:
        raise Refusal(f"{folder / TENSORS} is torn: its hash differs from the one in {SETTINGS}. Copy it again.")
    return settings


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
