"""Adapters merged with the backbone compute what the same adapters apart do, and nothing of peft is left in the way."""

from __future__ import annotations

import pytest
import torch
from memories import assert_exact, memorise
from overfitted import text_chunks, tiny_backbone
from peft.tuners.tuners_utils import BaseTunerLayer

from benchmarks.encode_loop import relative_error
from model.codec import Codec
from model.codec_io import load_codec, save_codec
from model.config import VerifyConfig

MERGED = VerifyConfig.of("fp32")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return save_codec(trained, tmp_path_factory.mktemp("codecs") / "codec")


@pytest.fixture(scope="module")
def merged(folder) -> Codec:
    return load_codec(folder, backbone=tiny_backbone(), verifying=MERGED, keep_plain=True)


def test_both_adapters_compute_what_they_do_apart(merged, trained):
    """Of the latents the first two: this random encoder triples what differs with each more, also between batches."""
    chunks = text_chunks(trained.backbone)
    found, wanted = (codec.encode(*codec.pad(chunks)) for codec in (merged, trained))
    assert relative_error(found[:, :2], wanted[:, :2]) < 1e-4
    for mine, theirs in zip(merged.keep(wanted, chunks), trained.keep(wanted, chunks), strict=True):
        assert mine.fidelity == theirs.fidelity and mine.patch == theirs.patch


def test_the_adapters_differ_and_are_switched(merged):
    prefix = torch.ones(1, 3, merged.backbone.width)
    states = {}
    for name in ("encoder", "decoder", "encoder"):
        merged.merged.switch(name)
        state = merged.backbone.body(inputs_embeds=prefix).last_hidden_state
        assert torch.equal(states.setdefault(name, state), state)
    assert not torch.allclose(states["encoder"], states["decoder"])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_what_was_verified_one_way_is_recalled_the_other(merged, trained, size):
    chunks = text_chunks(trained.backbone)
    assert_exact(merged, memorise(trained, chunks, 8), chunks, size)
    assert_exact(trained, memorise(merged, chunks, 8), chunks, size)


def test_merged_layers_are_the_backbones_own_and_hold_its_dtype(folder):
    codec = load_codec(folder, backbone=tiny_backbone(precision="bf16"), verifying=VerifyConfig.of("bf16"))
    assert codec.wrapped is None
    assert not any(isinstance(module, BaseTunerLayer) for module in codec.backbone.model.modules())
    assert {weight.dtype for weight in codec.backbone.model.parameters()} == {torch.bfloat16}


def test_the_plain_backbone_is_there_where_it_was_kept(merged, folder):
    ids, own = torch.arange(3, 30)[None], tiny_backbone().model
    with merged.plain():
        assert torch.equal(merged.backbone.model(ids).logits, own(ids).logits)
    lean = load_codec(folder, backbone=tiny_backbone(), verifying=MERGED)
    with pytest.raises(KeyError, match="plain"), lean.plain():
        pass


def test_merged_adapters_are_not_saved(merged, tmp_path):
    with pytest.raises(ValueError, match="merged with its backbone; load it without `verifying`"):
        save_codec(merged, tmp_path / "codec")
    assert not list(tmp_path.iterdir())
