"""A head added to a codec: a new codec folder whose latents are the old one's, and whose embeddings are the head's.

Its settings name the codec without the head (`latents_identity`), so that banks of that one can be re-embedded.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from safetensors.torch import load_file

from model.codec_folder import TENSORS, read_settings
from model.codec_io import write_variant
from model.config import HEAD, CodecConfig
from model.head import PREFIX, PoolingHead


def add_head(
    codec_folder: str | Path, head: PoolingHead, out: str | Path, *, latents_weight: float | None = None
) -> Path:
    """Write the codec with this head, in place of one that it has, to a new folder. Raises Taken, and ValueError.

    `latents_weight`: the latents' share in a search by both, where this head deserves another than heads do.
    """
    settings = read_settings(codec_folder)
    tensors = load_file(Path(codec_folder, TENSORS))
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    tensors |= head.tensors()
    config = CodecConfig.from_dict(settings["config"])
    config = dataclasses.replace(config, pooling=HEAD, latents_weight=latents_weight)
    changed = {"latents_identity": _of_latents(settings), "embedding_width": head.embedding_width}
    return write_variant(codec_folder, out, tensors, config, **changed)


def latents_identity(codec_folder: str | os.PathLike[str]) -> str:
    """The identity of the codec in a folder without its head: codecs that share it make the same latents."""
    return _of_latents(read_settings(codec_folder))


def _of_latents(settings: dict) -> str:
    return settings.get("latents_identity", settings["identity"])
