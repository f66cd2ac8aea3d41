"""Which systems there are: a name, or a folder, to what it opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.evaluate.system import Opening, System
from jobs.evaluate.systems import bm25, chunk_lora, codec, dyprag, embedder, text
from model.codec_folder import SETTINGS
from model.refusal import Missing, Refusal

CARD = "system.json"  # in a trained baseline's folder: {"system": a name of SYSTEMS, ...}
SYSTEMS: dict[str, Callable[[str, Path | None, Opening], list[System]]] = {
    "default": codec.opened,
    "untrained": codec.opened,
    "text": text.opened,
    "bm25": bm25.opened,
    "minilm": embedder.opened,
    "bge": embedder.opened,
    "lora": chunk_lora.opened,
    "dyprag": dyprag.opened,
    "dyprag-ours": dyprag.opened,
}


def open_systems(names: Sequence[str], opening: Opening) -> tuple[list[System], list[tuple[str, str]]]:
    """The systems, and (name, why) of those that cannot be opened here. Refusal for a name that means nothing."""
    found: list[System] = []
    faults: list[tuple[str, str]] = []
    for name, opener, folder in [(name, *_opener(name)) for name in dict.fromkeys(names)]:
        try:
            found += opener(name, folder, opening)
        except (Refusal, OSError, ModuleNotFoundError) as error:
            faults.append((name, " ".join(str(error).split())))
    return found, faults


def _opener(name: str) -> tuple[Callable[[str, Path | None, Opening], list[System]], Path | None]:
    if name in SYSTEMS:
        return SYSTEMS[name], None
    folder = Path(name)
    if (folder / CARD).is_file():
        return SYSTEMS[_named(folder / CARD)], folder
    if (folder / SETTINGS).is_file():
        return codec.opened, folder
    raise Missing(
        f"there is no system {name!r}: wanted {', '.join(SYSTEMS)}, or a codec's or a trained baseline's folder"
    )


def _named(card: Path) -> str:
    try:
        name = json.loads(card.read_text(encoding="utf-8"))["system"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{card} is torn, or no system's: {error!r}. Copy the folder again.") from None
    if name not in SYSTEMS:
        raise Refusal(f"{card} names the system {name!r}; this nextmem knows {', '.join(SYSTEMS)}")
    return name
