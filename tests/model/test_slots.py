"""Parallel latents: one forward in place of fifteen, the same codec around them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.backbone import Backbone, load_backbone
from model.codec_io import codec_hash, load_codec, save_codec
from model.config import CodecConfig
from model.slots import first_slots, slot_latents
from model.training.curriculum import Place, TrainConfig
from model.training.flop import step_flop
from model.training.trainee import Trainee
from model.training.trainer import Trainer
from model.untrained import untrained_codec

K = 4
CONFIG = CodecConfig(chunk_tokens=16, num_latents=K, lora_rank=4, latents="parallel")
CHUNKS = [np.random.default_rng(i).integers(3, 259, size=n) for i, n in enumerate((12, 16, 9, 16))]


def tiny_backbone() -> Backbone:
    return load_backbone("tiny-llama", precision="fp32", device="cpu", attention="sdpa")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


def test_padding_changes_no_latent_and_fewer_slots_give_the_first_ones(backbone):
    slots_KD = first_slots(backbone, CONFIG)
    ids_BL = torch.zeros(2, 16, dtype=torch.long)
    ids_BL[0, :9], ids_BL[1] = torch.arange(9) + 5, torch.arange(16) + 5
    both = slot_latents(backbone, ids_BL, torch.tensor([9, 16]), slots_KD)
    alone = slot_latents(backbone, ids_BL[:1, :9], torch.tensor([9]), slots_KD)
    assert both.shape == (2, K, 64) and torch.allclose(both[:1], alone, atol=1e-5)
    assert torch.allclose(slot_latents(backbone, ids_BL, torch.tensor([9, 16]), slots_KD[:2]), both[:, :2], atol=1e-5)


def test_slots_are_as_long_as_embeddings(backbone):
    lengths = first_slots(backbone, CONFIG).norm(dim=-1)
    assert torch.allclose(lengths, backbone.embed.weight.norm(dim=-1).mean().expand(K))


def test_a_codec_of_parallel_latents_recalls_exactly_and_survives_its_folder(backbone, tmp_path):
    codec = untrained_codec(backbone, CONFIG)
    memories = codec.memorise(CHUNKS)
    assert all(memory.patch for memory in memories)
    again = load_codec(save_codec(codec, tmp_path / "codec"), device="cpu", precision="fp32")
    assert again.identity == codec.identity and torch.equal(again.slots_KD, codec.slots_KD)
    ids_BL, lengths_B = codec.pad(CHUNKS)
    assert torch.allclose(again.encode(ids_BL, lengths_B), codec.encode(ids_BL, lengths_B), atol=1e-5)


def test_a_codec_of_fed_back_latents_keeps_its_hash():
    """The field is younger than the codecs that are about."""
    tensors = {"marker": torch.ones(2)}
    plain = CodecConfig()
    left_out = {"latents": "autoregressive", "latents_weight": None}
    assert plain.as_dict() == plain.meaning() | left_out and not left_out.keys() & plain.meaning().keys()
    parallel = dataclasses.replace(plain, latents="parallel")
    assert codec_hash(plain, "b", "t", tensors) != codec_hash(parallel, "b", "t", tensors)


@pytest.mark.parametrize(
    ("trains", "moved"),
    [("both", {"encoder", "decoder", "marker", "slots"}), ("encoder_marker", {"encoder", "marker", "slots"})],
)
def test_what_trains_with_slots(trains, moved):
    config = dataclasses.replace(CONFIG, latent_gain="raw")
    made = Trainer(Trainee(tiny_backbone(), config), TrainConfig(trains=trains, warmup_steps=0, learning_rate=3e-3))
    place = Place(2, K, 0, 0, 0, 100)
    made.enter(place, CHUNKS)
    before = {name: tensor.clone() for name, tensor in made.trainee.tensors().items()}
    for _ in range(2):
        made.step(CHUNKS, place)
    after = made.trainee.tensors()
    assert {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])} - {"delta"} == moved


def test_slots_learn_to_carry_a_text():
    made = Trainer(Trainee(tiny_backbone(), CONFIG), TrainConfig(warmup_steps=0, learning_rate=5e-3))
    place = Place(2, K, 0, 0, 0, 100)
    made.enter(place, CHUNKS)
    first = made.step(CHUNKS, place).loss
    for _ in range(60):
        last = made.step(CHUNKS, place).loss
    assert last < 0.5 * first


def test_parallel_latents_cost_no_generation():
    place, lengths = Place(2, 5, 0, 0, 0, 1), np.array([10])
    assert step_flop(1, 0, lengths, place, 5) - step_flop(1, 0, lengths, place, 5, feeds_back=False) == 2 * 14
