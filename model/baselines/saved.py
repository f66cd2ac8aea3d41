"""A trained baseline as a folder: system.json says what it is, system.safetensors holds it. Whole or not there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.backbone import Backbone
from model.refusal import Missing, Refusal, Taken

CARD, TENSORS = "system.json", "system.safetensors"


@dataclass(frozen=True, slots=True)
class Card:
    """`identity`: 32 hex digits over name, backbone, settings and every tensor; empty before it is saved."""

    system: str
    backbone: str
    backbone_fingerprint: str
    settings: dict[str, object] = field(default_factory=dict)
    identity: str = ""

    @classmethod
    def of(cls, system: str, backbone: Backbone, settings: dict[str, object]) -> Card:
        return cls(system, backbone.name, backbone.fingerprint, settings)


def save_system(folder: Path, card: Card, tensors: dict[str, torch.Tensor]) -> Path:
    """Refuses to replace another folder."""
    if folder.exists():
        raise Taken(f"{folder} exists already; name a new folder for {card.system}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, temporary / TENSORS)
        told = dataclasses.asdict(dataclasses.replace(card, identity=_identity(card, tensors)))
        (temporary / CARD).write_text(json.dumps(told, indent=2) + "\n")
        os.chmod(temporary, 0o755)
        os.chmod(temporary / TENSORS, 0o644)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_card(folder: Path) -> Card:
    """Missing where there is none, Refusal for one that is torn."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except FileNotFoundError:
        raise Missing(f"{folder} holds no trained baseline: it has no {CARD}") from None
    except (ValueError, TypeError) as error:
        raise Refusal(f"{folder / CARD} is torn, or of another version: {error}. Copy the folder again.") from None


def read_tensors(folder: Path, backbone: Backbone) -> dict[str, torch.Tensor]:
    """Refusal where they were trained on another backbone, or cannot be read."""
    card = read_card(folder)
    if not backbone.is_named(card.backbone_fingerprint):
        raise Refusal(f"{folder} was trained on {card.backbone}, which {backbone.name} is not: use that backbone")
    try:
        return load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise Refusal(f"{folder / TENSORS} cannot be read: {error}. Copy the folder again.") from None


def _identity(card: Card, tensors: dict[str, torch.Tensor]) -> str:
    told = [card.system, card.backbone_fingerprint, card.settings]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
