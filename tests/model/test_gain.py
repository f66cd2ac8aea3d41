"""The latent gain: what each kind does to a latent, and that the regression finds the map it should."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model.backbone import load_backbone
from model.config import CodecConfig
from model.gain import RIDGE, STRETCH, LatentGain, regress
from model.latents import decoder_start
from model.training.trainee import Trainee
from model.untrained import base_marker

WIDTH = 64


@pytest.fixture(scope="module")
def chunks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, 259, size) for size in (12, 12, 7) for _ in range(40)]


def test_nothing_a_factor_and_a_map():
    latents = torch.randn(2, 3, WIDTH)
    assert LatentGain()(latents) is latents
    assert torch.equal(LatentGain(torch.full((WIDTH,), 0.5))(latents), latents / 2)
    swap_DD = torch.eye(WIDTH).flip(0)
    assert torch.equal(LatentGain(None, swap_DD, torch.ones(WIDTH))(latents), latents.flip(-1) + 1)


def test_a_gain_survives_its_tensors():
    gain = LatentGain(None, torch.randn(WIDTH, WIDTH), torch.randn(WIDTH))
    again = LatentGain.of({"marker": torch.ones(1)} | gain.tensors())
    assert again.factor_D is None
    assert torch.equal(again.map_DD, gain.map_DD) and torch.equal(again.shift_D, gain.shift_D)
    assert LatentGain.of({"marker": torch.ones(1)}).tensors() == {}


def test_the_regression_is_the_ridge_solution_of_states_onto_the_next_embeddings(chunks):
    """Chunks of several lengths and more than one batch of each, against least squares with one row a ridge."""
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    marker_D = base_marker(backbone, "repeat")
    found = regress(backbone, marker_D, decoder_start(backbone, "end-of-text"), chunks)
    pairs = [states_and_embeddings(backbone, marker_D, torch.from_numpy(chunk)[None]) for chunk in chunks]
    states, embeds = (torch.cat([each[side].flatten(0, 1) for each in pairs]) for side in (0, 1))
    torch.testing.assert_close(found.centre_D, states.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.target_D, embeds.mean(0), atol=1e-4, rtol=1e-4)
    centred, wanted = states - states.mean(0), embeds - embeds.mean(0)
    ridge = (RIDGE * centred.square().mean() * len(centred)) ** 0.5 * torch.eye(WIDTH)
    solved = torch.linalg.lstsq(torch.cat([centred, ridge]), torch.cat([wanted, torch.zeros(WIDTH, WIDTH)])).solution
    torch.testing.assert_close(found.map_DD / STRETCH, solved, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def states_and_embeddings(backbone, marker_D, ids_BL):
    text = backbone.embed(ids_BL)
    start = backbone.embed(torch.tensor([backbone.end_token])).expand(len(text), 1, -1)
    embeds = torch.cat([start, text, marker_D.expand(len(text), 1, -1), text], dim=1)
    hidden = backbone.body(inputs_embeds=embeds, use_cache=False).last_hidden_state
    return hidden[:, ids_BL.shape[1] + 1 : -1], text


def test_training_starts_from_the_regression_and_its_factor_scales_what_the_map_gives(chunks):
    made = Trainee(load_backbone("tiny-llama", precision="fp32", device="cpu"), config())
    made.measure_gain(chunks)
    first, latents = made.first_gain, torch.randn(5, WIDTH)
    torch.testing.assert_close(made.gain(latents), (latents - first.centre_D) @ first.map_DD + first.target_D)
    made.factor_D.data.fill_(3.0)
    torch.testing.assert_close(made.gain(latents), 3 * (latents - first.centre_D) @ first.map_DD + first.target_D)


def test_a_checkpoint_holds_the_regression_and_a_codec_only_its_gain(chunks, tmp_path):
    made, resumed, started = (
        Trainee(load_backbone("tiny-llama", precision="fp32", device="cpu"), config()) for _ in range(3)
    )
    made.measure_gain(chunks)
    made.factor_D.data.uniform_(0.5, 2)
    made.statistics.mean_D.copy_(made.first_gain.centre_D + 1)
    resumed.load(made.tensors())
    assert torch.equal(resumed.factor_D, made.factor_D) and torch.equal(resumed.gain.map_DD, made.gain.map_DD)
    made.round_off()
    codec = made.codec()
    assert torch.equal(codec.gain.map_DD, codec.gain.map_DD.bfloat16().float())
    rest = {"marker": codec.marker_D, "latent_mean": codec.statistics.mean_D, "latent_deviation": torch.ones(WIDTH)}
    started.load(rest | codec.gain.tensors())
    save_file(started.tensors(), tmp_path / "checkpoint.safetensors")  # which refuses tensors that share memory
    latents = torch.randn(5, WIDTH)
    assert torch.equal(started.factor_D, torch.ones(WIDTH))
    torch.testing.assert_close(started.gain(latents), codec.gain(latents), atol=1e-4, rtol=1e-4)


def config() -> CodecConfig:
    return CodecConfig(chunk_tokens=16, num_latents=3, lora_rank=4, latent_gain="linear")
