"""The banks that verbs are tried on: two of one tiny codec, with documents of their own and some that both hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.chaos.job import ROOT
from benchmarks.chaos.scene import documents
from benchmarks.chaos.verbs import Place

ARTICLES = {"bank": slice(0, 4), "other": slice(3, 6)}  # one stands in both


def place(folder: Path) -> Place:
    """Encoded by the command, in the new folder `folder`/place."""
    from model.backbone import load_backbone
    from model.codec_io import save_codec
    from model.config import CodecConfig
    from model.untrained import untrained_codec

    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    old, new = (untrained_codec(backbone, CodecConfig(num_latents=latents)) for latents in (15, 4))
    codec, other = (Path(save_codec(each, folder / name)) for each, name in ((old, "old"), (new, "new")))
    made = Place(folder / "place", other)
    made.folder.mkdir()
    texts = sorted(documents().items())
    for name, some in ARTICLES.items():
        corpus = folder / f"{name}.jsonl"
        corpus.write_text("".join(json.dumps({"id": doc_id, "text": text}) + "\n" for doc_id, text in texts[some]))
        words = ["encode", corpus, made.folder / name, "--codec", codec, "--set", "precision=fp32", "--actors", "1"]
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        command = [sys.executable, "-m", "nextmem.cli", *map(str, words), "--set", "unit_chunks=16"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return made
