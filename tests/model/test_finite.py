"""NaN and infinity end what is being done, with a name: a NaN channel is no certainty, no patch and no embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from memories import memorise, random_chunks
from safetensors.torch import load_file, save_file

from model.backbone import load_backbone
from model.codec import Codec
from model.codec_folder import file_hash
from model.codec_io import load_codec, make_codec, save_codec
from model.finite import NotFiniteError, require_finite
from model.gain import length_gain, regress
from model.latents import read_tokens
from model.untrained import calibrate, untrained_codec

NAN = float("nan")


@pytest.fixture
def codec() -> Codec:
    """On a backbone of its own, to be spoilt."""
    return untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"))


def spoil_last_norm(codec: Codec, value: float = NAN) -> None:
    """What a device that computes one channel wrong does to every state."""
    codec.backbone.body.norm.weight[5] = value


def spoilt(codec: Codec, **changes) -> Codec:
    """The codec with a part of its statistics changed, as it was never made: `make_codec` refuses it."""
    statistics = replace(codec.statistics, **changes)
    parts = {"marker_D": codec.marker_D, "gain": codec.gain, "statistics": statistics}
    return Codec(codec.backbone, codec.config, **parts)


def one_odd(values: torch.Tensor, value: float = NAN) -> torch.Tensor:
    values = values.clone()
    values[3] = value
    return values


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("verify", [True, False])
def test_latents_that_are_not_finite_are_no_memories(codec, value, verify):
    spoil_last_norm(codec, value)
    with pytest.raises(NotFiniteError, match="latents are not finite on cpu in float32: chunk 0 of 2 and 1 others"):
        codec.memorise(random_chunks(codec, [20, 20]), verify=verify)


def test_latents_made_elsewhere_are_looked_at_too(codec):
    chunks = random_chunks(codec, [20, 20])
    latents_BKD = codec.encode(*codec.pad(chunks)).clone()
    latents_BKD[1, 2, 3] = NAN
    with pytest.raises(NotFiniteError, match=r"latents are not finite .*: chunk 1 of 2"):
        codec.keep(latents_BKD, chunks, verify=False)


@pytest.mark.parametrize("name", ["mean_D", "deviation_D"])
def test_a_codec_with_a_channel_that_is_no_number_makes_no_scales_and_no_embedding(codec, name):
    wrong = spoilt(codec, **{name: one_odd(getattr(codec.statistics, name))})
    latents_BKD = wrong.encode(*wrong.pad(random_chunks(wrong, [20])))
    with pytest.raises(NotFiniteError, match="the quantiser's scales are not finite"):
        wrong.quantise(latents_BKD)
    with pytest.raises(NotFiniteError, match="embeddings are not finite"):
        wrong.embed(latents_BKD)


def test_leads_that_are_not_finite_say_nothing_of_a_token(codec):
    """`lead <= margin` would be False: no patch, fidelity 0, carried 1."""
    prefix_BSD = torch.zeros(2, 3, codec.backbone.width)
    prefix_BSD[1, 0, 0] = NAN
    with torch.inference_mode(), pytest.raises(NotFiniteError, match=r"leads are not finite .*: chunk 1 of 2"):
        read_tokens(codec.backbone, prefix_BSD, torch.ones(2, 5, dtype=torch.int64))


def test_a_draft_on_a_device_that_computes_no_numbers_is_no_text(trained):
    rows = memorise(trained, random_chunks(trained, [20]), 1)
    norm = trained.backbone.body.norm.weight
    before = norm.clone()
    norm[5] = NAN
    try:
        with pytest.raises(NotFiniteError, match="a draft's states are not finite"):
            trained.recall(rows, patched=False)
        with pytest.raises(NotFiniteError, match="latents are not finite"):
            trained.memorise(random_chunks(trained, [20]))
    finally:
        norm.copy_(before)


def test_statistics_and_gains_are_measured_on_numbers_only(codec):
    chunks = random_chunks(codec, [20, 20])
    latents_NKD = codec.encode(*codec.pad(chunks)).clone()
    latents_NKD[1, 0, 0] = NAN
    with pytest.raises(NotFiniteError, match=r"latents to calibrate on are not finite .*: chunk 1 of 2"):
        calibrate(latents_NKD, codec.config)
    with pytest.raises(NotFiniteError, match="the latent gain is not finite"):
        length_gain(codec.backbone, latents_NKD)
    spoil_last_norm(codec)
    marker_D = codec.marker_D
    with pytest.raises(NotFiniteError, match="the states that the latent gain is measured on are not finite"):
        regress(codec.backbone, marker_D, marker_D[None], chunks)


def test_a_codec_is_neither_made_nor_loaded_with_a_tensor_that_is_no_number(codec, tmp_path):
    statistics = replace(codec.statistics, mean_D=one_odd(codec.statistics.mean_D))
    with pytest.raises(NotFiniteError, match=r"the codec's latent_mean is not finite .* Train or calibrate it again"):
        make_codec(codec.backbone, codec.config, marker_D=codec.marker_D, gain=codec.gain, statistics=statistics)
    folder = save_codec(codec, tmp_path / "codec")
    tensors = load_file(folder / "codec.safetensors")
    save_file(tensors | {"marker": one_odd(tensors["marker"])}, folder / "codec.safetensors")
    settings = (folder / "codec.json").read_text()
    wrong_hash, right_hash = (settings.split('"tensors_sha256": "')[1][:64], file_hash(folder / "codec.safetensors"))
    (folder / "codec.json").write_text(settings.replace(wrong_hash, right_hash))
    with pytest.raises(NotFiniteError, match=r"codec\.safetensors: marker is not finite"):
        load_codec(folder, device="cpu", precision="fp32")


def test_what_is_finite_passes_whatever_its_size():
    require_finite(torch.tensor([[0.0, -3e38], [3e38, 1e-45]]), "numbers are")
    require_finite(torch.empty(0, 4), "numbers are")


def test_not_finite_is_no_fault_that_a_document_can_have():
    assert not issubclass(NotFiniteError, ValueError | OSError | LookupError | RuntimeError)
    assert np.isnan(NAN) and not (NAN <= 0.5)  # the comparison that all this is about
