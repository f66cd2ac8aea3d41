"""The reader: a third adapter on the backbone, which reads a codec's latents where they stand among tokens.

It lies beside the codec in its folder, in two files of its own: reader.json and reader.safetensors. The codec's files
stay as they are, and so does its identity: banks, patches and recall know nothing of a reader (docs/decisions.md).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.adapters import MergedAdapters, add_adapters, set_adapter_tensors
from model.backbone import Backbone, load_backbone
from model.codec_folder import READER, READER_TENSORS, file_hash, read_settings
from model.config import CodecConfig
from model.refusal import Missing, Refusal, Taken

NAME = "reader"
CARD = "READER.md"
FORMAT_VERSION = 1


def has_reader(codec_folder: str | Path) -> bool:
    """Whether a reader lies in a codec folder."""
    return Path(codec_folder, READER).is_file()


def add_reader(
    codec_folder: str | Path, tensors: Mapping[str, torch.Tensor], out: str | Path, *, card: str, reads: str
) -> Path:
    """Write the codec's folder with this reader, in place of one that it has, to a new folder.

    `tensors`: the adapter's, by `reader.<layer>`. `card`: what a person wants to know of it. Raises Taken.
    """
    out = Path(out)
    if out.exists():
        raise Taken(f"{out} exists already; name a new folder for the codec with its reader")
    settings = read_settings(codec_folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        shutil.copytree(codec_folder, temporary, dirs_exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / READER_TENSORS)
        os.chmod(temporary / READER_TENSORS, 0o644)
        told = {
            "format_version": FORMAT_VERSION,
            "latents": _latents(settings),
            "reads": reads,
            "tensors_sha256": file_hash(temporary / READER_TENSORS),
        }
        (temporary / READER).write_text(json.dumps(told, indent=2) + "\n")
        (temporary / CARD).write_text(card)
        os.chmod(temporary, 0o755)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def load_reader(
    codec_folder: str | Path, *, backbone_name: str | None = None, precision: str = "auto", device: str = "auto"
) -> Backbone:
    """A backbone of its own, with the reader's adapter added to its weights: it reads text and the codec's latents.

    Raises Missing where the folder has no reader, Refusal where it is torn, of another codec, or of another backbone.
    """
    settings, tensors = read_settings(codec_folder), _tensors(Path(codec_folder))
    config = CodecConfig.from_dict(settings["config"])
    backbone = load_backbone(
        backbone_name or settings["backbone"], precision=precision, device=device, load_in_4bit=config.load_in_4bit
    )
    if not backbone.is_named(settings["backbone_fingerprint"]):
        raise Refusal(f"the reader in {codec_folder} is of {settings['backbone']}, which {backbone.name} is not")
    wrapped = add_adapters(backbone, config, (NAME,))
    set_adapter_tensors(wrapped, tensors, (NAME,))
    if not config.load_in_4bit:
        MergedAdapters(wrapped, (NAME,))
    name = f"{backbone.name}, reader {file_hash(Path(codec_folder, READER_TENSORS))[:12]}"
    return dataclasses.replace(backbone, name=name)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's, checked."""
    if not has_reader(folder):
        raise Missing(f"{folder} has no reader: `nextmem train RUN --system reader --data PASSAGES --init {folder}`")
    try:
        card = json.loads((folder / READER).read_text())
        version, latents, reads = card["format_version"], card["latents"], card["reads"]
        wanted = card["tensors_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{folder / READER} is torn: {error!r}. Copy the codec folder again.") from None
    if version != FORMAT_VERSION:
        raise Refusal(f"{folder} has a reader of format {version}; this nextmem reads {FORMAT_VERSION}")
    if reads != "latents":
        raise Refusal(f"the reader in {folder} was trained on {reads}, to compare with: it reads no latents")
    if latents != (own := _latents(read_settings(folder))):
        raise Refusal(f"the reader in {folder} was trained on the latents of codec {latents}, and {own} lies there")
    path = folder / READER_TENSORS
    if not path.is_file() or file_hash(path) != wanted:
        raise Refusal(f"{path} is torn or missing: its hash differs from the one in {READER}. Copy it again.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise Refusal(f"{path} cannot be read: {error}. Copy it again.") from None


def _latents(settings: dict) -> str:
    """The identity of a codec's latents: a head changes embeddings alone."""
    return settings.get("latents_identity", settings["identity"])
