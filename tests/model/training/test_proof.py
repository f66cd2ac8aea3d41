"""The idea works: on a tiny random backbone the two stages come to latents that carry sentences word for word.

The sentences share their openings and differ in names and numbers, and stage 2 leaves the decoder frozen: what tells
them apart can only come through the 15 latents.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.backbone import load_backbone
from model.config import CodecConfig
from model.training.curriculum import TrainConfig
from model.training.losses import latent_prefix, make_batch
from model.training.sampling import greedy
from model.training.trainee import Trainee
from model.training.trainer import Trainer
from model.untrained import latents_of

pytestmark = pytest.mark.training

SENTENCES = ("Ana paid 417 to Bob.", "Ana paid 93 to Carl.", "Ana paid 528 to Dora.", "Ana owes 61 to Eve.")
CHECK_EVERY = 20


@pytest.fixture(scope="module")
def trained() -> Trainer:
    """Through stage 1 and all 15 sub-stages, each ended as soon as every token is right with some certainty."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu", attention="sdpa")
    settings = TrainConfig(learning_rate=3e-3, stage1_steps=400, substage_steps=60, final_steps=300, warmup_steps=5)
    trainer = Trainer(Trainee(backbone, CodecConfig(chunk_tokens=32)), settings)
    chunks = ids(trainer)
    place = trainer.curriculum.start()
    trainer.enter(place, chunks)
    while not place.is_done:
        measured = trainer.step(chunks, place)
        place = trainer.curriculum.after_step(place)
        if measured.accuracy == 1.0 and measured.loss < 0.06 and place.substage_step >= CHECK_EVERY:
            place = dataclasses.replace(place, cap=place.substage_step)
        if trainer.curriculum.ended(place):
            place = trainer.curriculum.next(place)
            trainer.enter(place, chunks)
    torch.set_num_threads(threads)
    return trainer


def ids(trainer: Trainer) -> list[np.ndarray]:
    return [np.array(trainer.trainee.backbone.tokenizer.encode(text)) for text in SENTENCES]


@torch.no_grad()
def written(trainer: Trainer, latents_KD: torch.Tensor) -> str:
    """What the decoder writes, greedy and free-running, from 15 latents and nothing else."""
    trainee = trainer.trainee
    batch = make_batch([np.array([0])], trainee.backbone.device)
    prefix = latent_prefix(trainee, batch, latents_KD[None])
    assert prefix.embeds_BPD.shape[1] == 17  # start, latents and marker: no text
    with trainee.adapter("decoder"):
        return trainee.backbone.tokenizer.decode(greedy(trainee, prefix.embeds_BPD, 40))


def latents(trainer: Trainer) -> torch.Tensor:
    """[4, 15, 64], by the codec's own encoder; sentences one at a time, to keep their order."""
    codec = trainer.trainee.codec()
    return torch.cat([latents_of(codec, [chunk]) for chunk in ids(trainer)])


def test_greedy_decoding_of_the_latents_gives_each_sentence_back(trained):
    assert tuple(written(trained, own_KD) for own_KD in latents(trained)) == SENTENCES


def test_swapped_latents_decode_to_the_other_sentence(trained):
    first_KD, second_KD = latents(trained)[:2]
    assert written(trained, second_KD) == SENTENCES[1] and written(trained, first_KD) == SENTENCES[0]
    assert written(trained, (first_KD + second_KD) * 0) not in SENTENCES


def test_the_codec_recalls_them_with_empty_patches(trained):
    """Through NF4, verified as an encode job does it."""
    trained.calibrate(ids(trained), 15)
    memories = trained.trainee.codec().memorise(ids(trained))
    assert [memory.fidelity for memory in memories] == [1.0] * 4
