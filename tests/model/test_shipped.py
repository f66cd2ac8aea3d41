"""The codec that ships with the package: whole, small enough, the default, and worth more than no training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from model.backbone import load_backbone
from model.checkpoint import load_codec
from model.codec_folder import TENSORS, read_settings
from model.config import ADAPTERS, CodecConfig
from model.default_codec import SHIPPED, default_codec_folder
from model.embedded import EMBEDDED
from model.reconstruction import reconstruct

ARTICLES = Path(__file__).parents[2] / "samples" / "articles.jsonl"
LIMIT = 20_000_000  # bytes of both adapters


@pytest.fixture(scope="module")
def folder() -> Path:
    return SHIPPED / EMBEDDED


def test_it_is_the_default_of_its_backbone_and_of_no_other_configuration(folder, monkeypatch):
    assert default_codec_folder(EMBEDDED) == default_codec_folder(EMBEDDED, CodecConfig()) == folder
    made = []
    monkeypatch.setattr("model.default_codec.untrained_codec_folder", lambda *asked, **_: made.append(asked))
    default_codec_folder(EMBEDDED, replace(CodecConfig(), num_latents=4))
    default_codec_folder("tiny-llama")
    assert [name for name, _ in made] == [EMBEDDED, "tiny-llama"]


def test_its_settings_are_the_defaults_and_its_adapters_fit(folder):
    settings = read_settings(folder)
    assert CodecConfig(**settings["config"]) == CodecConfig() and settings["backbone"] == EMBEDDED
    with safe_open(folder / TENSORS, "pt") as tensors:
        sizes = [
            tensors.get_tensor(name).numel() * tensors.get_tensor(name).element_size()
            for name in tensors.keys()  # noqa: SIM118
            if name.startswith(ADAPTERS)
        ]
    assert 0 < sum(sizes) <= LIMIT


def test_its_card_says_what_it_is(folder):
    card = (folder / "README.md").read_text()
    assert read_settings(folder)["identity"] in card
    for word in ("Data", "Steps", "Hardware", "Figures", "Limits"):
        assert f"## {word}" in card


@pytest.mark.backbone
def test_its_latents_carry_more_than_the_text_itself_tells(folder):
    """On sample articles, that nobody trained on: above what the backbone guesses from the text read so far."""
    backbone = load_backbone(EMBEDDED, precision="fp32", device="cpu")
    codec = load_codec(folder, backbone=backbone)
    texts = [json.loads(line)["text"] for line in ARTICLES.read_text().splitlines()[:6]]
    found = reconstruct(codec, [next(backbone.tokenizer.chunks(text, 128)).token_ids for text in texts])
    assert found.fidelity > found.plain + 0.05
    assert found.forced < 1 - found.plain
    assert found.raw < 0.5  # an untrained codec's rows hold their token ids, all of them
