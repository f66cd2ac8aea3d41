"""Backbones that the tests share: both tiny families in fp32, and the embedded one (marker `backbone`)."""

from __future__ import annotations

import pytest
import torch
from overfitted import overfitted_codec

from model.backbone import Backbone, load_backbone
from model.codec import Codec
from model.untrained import untrained_codec


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two-layer models gain nothing from a second thread, and on a busy machine they wait for it (60 times slower)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=["tiny-llama", "tiny-qwen3"])
def tiny(request) -> Backbone:
    return load_backbone(request.param, precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def tiny_codec(tiny) -> Codec:
    """Untrained, on each of the tiny families: recall is exact through raw patches alone."""
    return untrained_codec(tiny)


@pytest.fixture(scope="session")
def llama() -> Backbone:
    """For what does not depend on the family."""
    return load_backbone("tiny-llama", precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def smollm2() -> Backbone:
    """Converted on the first use in a fresh environment (40 s), loaded in a second after."""
    return load_backbone("smollm2-135m", precision="fp32", device="cpu")


@pytest.fixture(scope="session")
def trained() -> Codec:
    """On eight short texts its decoder has learned: small patches, so that the latents decide."""
    return overfitted_codec()
