"""Checkpoints of a run: safetensors + JSON, written whole and then renamed into place.

A torn one (its hash differs, a file is missing) is passed over for the one before it, and said. Nothing random is drawn
in a step, so adapters, marker, gain, optimizer and place are all that an exact resume needs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save

from model.codec_folder import file_hash
from model.training.curriculum import Place

STATE, TENSORS = "state.json", "state.safetensors"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint, read whole."""

    place: Place
    tensors: dict[str, torch.Tensor]


class Checkpoints:
    """The checkpoints of a run folder; `keep` of them stay."""

    def __init__(self, folder: Path, *, keep: int):
        self.folder, self.keep = folder, keep

    def write(self, place: Place, tensors: dict[str, torch.Tensor]) -> Path:
        """Raises OSError, a full disk say, and leaves the earlier checkpoints as they were.

        Those of later steps go: the run went back before them, because they are torn.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"{place.step:08d}-{place.stage}-{place.substage:02d}"
        temporary = Path(tempfile.mkdtemp(prefix=".writing.", dir=self.folder))
        try:
            _write(temporary / TENSORS, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
            state = {"place": dataclasses.asdict(place), "tensors_sha256": file_hash(temporary / TENSORS)}
            _write(temporary / STATE, json.dumps(state).encode())
            shutil.rmtree(target, ignore_errors=True)  # the same place, reached again after a resume
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        upto = [folder for folder in self._all() if folder.name <= target.name]
        for other in set(self._all()) - set(upto[-self.keep :]):
            shutil.rmtree(other, ignore_errors=True)
        return target

    def read(self, say: Callable[[str], None]) -> Saved | None:
        """The latest whole checkpoint, or None. `say` gets a line for each that is torn."""
        for folder in reversed(self._all()):
            try:
                return _read(folder)
            except (OSError, ValueError, KeyError, TypeError) as error:
                say(f"checkpoint {folder.name} is torn ({error}): going on from the one before it")
        return None

    def latest(self) -> str | None:
        """Name of the newest checkpoint, whole or not."""
        return max((folder.name for folder in self._all()), default=None)

    def _all(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("[0-9]*-[0-9]-[0-9]*"))


def _read(folder: Path) -> Saved:
    state = json.loads((folder / STATE).read_text())
    if file_hash(folder / TENSORS) != state["tensors_sha256"]:
        raise ValueError(f"the hash of {TENSORS} differs")
    return Saved(Place(**state["place"]), load((folder / TENSORS).read_bytes()))


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
