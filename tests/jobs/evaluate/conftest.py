"""Shared by the tests of an evaluation: the harbour set, and one evaluation of all tasks with tiny systems."""

from __future__ import annotations

import harbour
import pytest

from model.backbone import load_backbone
from model.codec_io import save_codec
from model.config import CodecConfig
from model.untrained import untrained_codec

TOKENS, LATENTS = 192, 3


@pytest.fixture(scope="session")
def harbour_folder(tmp_path_factory):
    return harbour.write(tmp_path_factory.mktemp("harbour"))


@pytest.fixture(scope="session")
def tiny_codec_folder(tmp_path_factory):
    """As everywhere, but its chunks hold a whole passage of the harbour."""
    config = CodecConfig(chunk_tokens=TOKENS, num_latents=LATENTS)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("codec") / "tiny")


@pytest.fixture(scope="session")
def evaluated(harbour_folder, tiny_codec_folder, tmp_path_factory):
    """All tasks of a tiny codec, dense, NF4 and refined, and of text and BM25. Tests only read it."""
    import nextmem

    out = tmp_path_factory.mktemp("evaluated")
    results = nextmem.evaluate(
        [tiny_codec_folder, "text", "bm25"],
        data=harbour_folder,
        tasks="all",
        limit=6,
        out=out,
        refine=2,
        backbone="tiny-llama",
        precision="fp32",
        tokens=TOKENS,
        draws=500,
    )
    return results, out
