"""Where a backbone's weights and tokenizer lie, and a hash of them. Needs no torch: a driver asks, workers load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from model.bytes_tokenizer import bytes_tokenizer
from model.embedded import EMBEDDED, embedded_folder
from model.tokens import TextTokenizer

TINY = ("tiny-llama", "tiny-qwen3")  # random weights built in code (model/tiny.py), for tests and dry runs
BLOCK, BLOCKS = 65536, 16


@dataclass(frozen=True, slots=True)
class Weights:
    """`fingerprint`: the same for the same files, whatever folder they lie in and precision they load in."""

    name: str
    folder: Path | None  # None for a tiny backbone
    fingerprint: str

    @property
    def size(self) -> int:
        """Bytes of the weight files; 0 for a tiny backbone."""
        return 0 if self.folder is None else sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def tokenizer(self) -> TextTokenizer:
        if self.folder is None:
            return TextTokenizer(bytes_tokenizer())
        return TextTokenizer.load(self.folder / "tokenizer.json")


def find_weights(name: str) -> Weights:
    """`smollm2-135m` (embedded), `tiny-llama` / `tiny-qwen3`, a model folder, or a Hugging Face id, fetched if need be.

    Raises ModuleNotFoundError with the install line where the embedded weights are missing, FileNotFoundError for a
    folder without a model, and what huggingface_hub raises for an id it cannot give.
    """
    if name in TINY:
        return Weights(name, None, hashlib.sha256(f"{name} seed 0".encode()).hexdigest()[:32])
    folder = embedded_folder() if name == EMBEDDED else _local(name) or _fetched(name)
    return Weights(name, folder, _fingerprint(folder))


def _local(name: str) -> Path | None:
    path = Path(name).expanduser()
    if not path.exists() and not name.startswith((".", "/", "~")):
        return None
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} is not a model folder: it has no config.json. Name one, or a Hugging Face id.")
    return path


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"backbone {name!r} is no model folder here and could not be fetched ({reason}). Name a model folder, a "
            f"Hugging Face id, or {EMBEDDED}."
        ) from None


def _fingerprint(folder: Path) -> str:
    """Hash of the tensors' names and shapes and of blocks sampled across their bytes.

    A file's own header is read, not hashed: the same weights saved by another version of safetensors differ there.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no *.safetensors: save the model with save_pretrained first")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")  # https://github.com/huggingface/safetensors#format
            digest.update(json.dumps([path.name, _header(path, file.read(length))], sort_keys=True).encode())
            start, size = 8 + length, path.stat().st_size - 8 - length
            for i in range(BLOCKS):
                file.seek(start + max(0, size - BLOCK) * i // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()[:32]


def _header(path: Path, data: bytes) -> dict:
    """What a safetensors file says of its tensors, without what its writer says of itself."""
    try:
        header = json.loads(data)
    except ValueError:
        raise ValueError(f"{path} is torn, or no safetensors file: copy the model again") from None
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
