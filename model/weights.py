"""Where a backbone's weights and tokenizer lie, and a hash of them. Needs no torch: a driver asks, workers load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model.bytes_tokenizer import bytes_tokenizer
from model.embedded import EMBEDDED, embedded_folder
from model.quiet import no_bars
from model.refusal import Missing, Refusal
from model.tokens import TextTokenizer

TINY = ("tiny-llama", "tiny-qwen3")  # random weights built in code (model/tiny.py), for tests and dry runs
BLOCK, BLOCKS = 65536, 16
FORM = "c1-"  # how a fingerprint begins that holds the configuration
UNSHAPING = {
    "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype", "finetuning_task", "id2label",
    "initializer_range", "is_llama_config", "label2id", "name_or_path", "pad_token_id", "pretraining_tp",
    "problem_type", "return_dict", "task_specific_params", "torch_dtype", "transformers.js_config",
    "transformers_version", "unk_token_id", "use_cache",
}  # fmt: skip
WHOLE = {  # old form: whole, of backbones that codecs in use were made for
    "b354fad07d6f995e3893ae613b2d93f9": "c1-575b35ab402b71152179b206419fe",  # smollm2-135m
}


@dataclass(frozen=True, slots=True)
class Weights:
    """`fingerprint`: the same for the same files, whatever folder they lie in and precision they load in."""

    name: str
    folder: Path | None  # None for a tiny backbone
    fingerprint: str  # of the weights and of the configuration that shapes a forward
    sampled: str  # of the weights alone: what was recorded before configurations were part of it

    @property
    def size(self) -> int:
        """Bytes of the weight files; 0 for a tiny backbone."""
        return 0 if self.folder is None else sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def is_named(self, recorded: str) -> bool:
        """Whether a fingerprint that a codec or a run recorded is of these weights.

        One of the old form is compared with the weights alone, but for a backbone whose whole fingerprint is known.
        """
        if recorded == self.sampled and recorded not in WHOLE:
            return True
        return WHOLE.get(recorded, recorded) == self.fingerprint

    def full_hash(self) -> str:
        """SHA-256 over every tensor's bytes, hex: reads all files. A tiny backbone's is its fingerprint."""
        if self.folder is None:
            return self.fingerprint
        digest = hashlib.sha256()
        for path in _files(self.folder):
            with path.open("rb") as file:
                digest.update(_described(path, file))
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

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
        fingerprint = hashlib.sha256(f"{name} seed 0".encode()).hexdigest()[:32]
        return Weights(name, None, fingerprint, fingerprint)
    folder = embedded_folder() if name == EMBEDDED else _local(name) or _fetched(name)
    sampled = _sampled(folder)
    shape = shaping(json.loads((folder / "config.json").read_text()))
    digest = hashlib.sha256(f"{sampled} {json.dumps(shape, sort_keys=True)}".encode())
    return Weights(name, folder, FORM + digest.hexdigest()[: 32 - len(FORM)], sampled)


def _local(name: str) -> Path | None:
    path = Path(name).expanduser()
    if not path.exists() and not name.startswith((".", "/", "~")):
        return None
    if not (path / "config.json").is_file():
        raise Missing(f"{name} is not a model folder: it has no config.json. Name one, or a Hugging Face id.")
    return path


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download, utils
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with no_bars(utils):
            return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise Refusal(
            f"backbone {name!r} is no model folder here and could not be fetched ({reason}). Name a model folder, a "
            f"Hugging Face id, or {EMBEDDED}."
        ) from None


def shaping(config: dict) -> dict:
    """What of a config.json shapes a forward, the same whichever version of transformers wrote it.

    All but what is known not to: a field that nobody has thought of counts. What is absent, null, false or 0 is one
    thing, for versions differ in which they leave out; the rotary settings stand in one place or in several.
    """
    kept = {
        key: shaping(value) if key.endswith("_config") and isinstance(value, dict) else value
        for key, value in config.items()
        if not (key in UNSHAPING or key.startswith(("_", "output_")) or key.endswith(("dropout", "_pdrop")))
    }
    rope = {**(kept.pop("rope_scaling", None) or {}), **(kept.pop("rope_parameters", None) or {})}
    rope = {"rope_type" if key == "type" else key: value for key, value in rope.items()}
    if (theta := kept.pop("rope_theta", None)) is not None:
        rope.setdefault("rope_theta", theta)
    if rope.get("rope_type") == "default":
        del rope["rope_type"]
    if isinstance(end := kept.get("eos_token_id"), list) and len(end) == 1:
        kept["eos_token_id"] = end[0]
    return {key: value for key, value in (kept | {"rope": rope}).items() if value not in (None, False, 0, {}, [])}


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Missing(f"{folder} has no *.safetensors: save the model with save_pretrained first")
    return files


def _described(path: Path, file: BinaryIO) -> bytes:
    """A file's name and tensors. It is left at the tensors' bytes.

    A header is read, not hashed: the same weights saved by another version of safetensors differ there.
    """
    length = int.from_bytes(file.read(8), "little")  # https://github.com/huggingface/safetensors#format
    return json.dumps([path.name, _header(path, file.read(length))], sort_keys=True).encode()


def _sampled(folder: Path) -> str:
    """Hash of the tensors' names and shapes and of blocks sampled across their bytes."""
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            digest.update(_described(path, file))
            start = file.tell()
            size = path.stat().st_size - start
            for i in range(BLOCKS):
                file.seek(start + max(0, size - BLOCK) * i // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return digest.hexdigest()[:32]


def _header(path: Path, data: bytes) -> dict:
    """What a safetensors file says of its tensors, without what its writer says of itself."""
    try:
        header = json.loads(data)
    except ValueError:
        raise Refusal(f"{path} is torn, or no safetensors file: copy the model again") from None
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
