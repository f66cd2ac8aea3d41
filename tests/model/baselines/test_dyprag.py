"""DyPRAG's translator in training: its size, what moves, what each variant learns towards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.backbone import load_backbone
from model.baselines.dyprag import RANK, Translating
from model.baselines.injection import Injection
from model.baselines.saved import read_card, read_tensors
from model.baselines.translator import HIDDEN
from model.config import CodecConfig
from model.refusal import Refusal
from model.training.curriculum import Place, TrainConfig
from model.training.losses import make_batch
from model.training.trainer import Trainer

pytestmark = pytest.mark.training

CHUNKS = [np.random.default_rng(i).integers(3, 259, size=n) for i, n in enumerate((12, 16, 9, 16))]
PLACE = Place(1, 0, 0, 0, 0, 100)


def translating(name: str) -> Translating:
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu", attention="sdpa")
    return Translating(backbone, CodecConfig(chunk_tokens=16, num_latents=2), name)


def trained(name: str, steps: int, **settings) -> tuple[Trainer, list[float]]:
    made = Trainer(translating(name), TrainConfig(stages="1", warmup_steps=0, **settings))
    made.make_optimizer(PLACE)
    return made, [made.step(CHUNKS, PLACE).loss for _ in range(steps)]


def test_the_translator_is_as_large_as_the_paper_s():
    """15.5 million weights and 380,160 values a text on SmolLM2-135M; here the same count on two layers of width 64."""
    made = translating("dyprag")
    gate_up_down = 3 * (64 + 128)
    assert made.injection.values == 2 * RANK * gate_up_down
    weights = sum(parameter.numel() for parameter in made.translator.parameters())
    assert weights == 2 * (6 * HIDDEN * 65 + RANK * gate_up_down * HIDDEN)
    assert 30 * (6 * HIDDEN * 577 + RANK * 3 * (576 + 1536) * HIDDEN) == 15_488_640


def test_what_it_says_depends_on_the_text_that_it_was_given():
    """A stock model class never reads the difference: then every text would be answered alike."""
    made, _ = trained("dyprag-ours", 2, learning_rate=1e-2)
    batch = make_batch(CHUNKS[:2], made.trainee.backbone.device)
    own = made.trainee.score(batch, PLACE).loss
    foreign_BV = made.trainee.delta(batch).flip(0)
    from model.baselines.repeat import repeating

    with made.trainee.injection.of(foreign_BV):
        foreign = repeating(made.trainee.backbone, batch).loss
    assert own != foreign


def test_the_fair_one_learns_to_beat_the_backbone_alone():
    made, losses = trained("dyprag-ours", 40, learning_rate=3e-3)
    plain = made.look(CHUNKS, PLACE, plain=True).loss
    assert losses[-1] < 0.7 * losses[0] and made.look(CHUNKS, PLACE).loss < 0.7 * plain


def test_the_published_one_moves_towards_a_lora_of_each_passage_s_own():
    made, _ = trained("dyprag", 1, learning_rate=1e-3)
    trainee, batch = made.trainee, make_batch(CHUNKS, made.trainee.backbone.device)

    def distance() -> float:
        with torch.no_grad():
            return float((trainee.delta(batch) - trainee._start_V).norm())

    before = distance()
    for _ in range(30):
        made.step(CHUNKS, PLACE)
    assert distance() < 0.9 * before  # each target is the shared start and a few small steps


def test_the_loss_that_is_told_is_of_the_text_alone():
    made = translating("dyprag")
    batch = make_batch(CHUNKS, made.backbone.device)
    with torch.no_grad():
        plain = made.plain(batch)
    assert float(made.score(batch, PLACE).loss.detach()) == pytest.approx(float(plain.loss), rel=1e-4)  # it begins as 0


def test_a_saved_translator_is_read_back_and_refused_on_another_backbone(tmp_path):
    made = translating("dyprag-ours")
    made.save(tmp_path / "codec")
    card = read_card(tmp_path / "codec")
    assert (card.system, card.settings["chunk_tokens"], len(card.identity)) == ("dyprag-ours", 16, 32)
    found = read_tensors(tmp_path / "codec", made.backbone)
    assert found.keys() == made.tensors().keys()
    with pytest.raises(Refusal, match="was trained on tiny-llama"):
        read_tensors(tmp_path / "codec", load_backbone("tiny-qwen3", precision="fp32", device="cpu"))


def test_a_backbone_without_such_layers_is_refused():
    class Odd:
        name, body = "odd", torch.nn.Module()

    Odd.body.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(Refusal, match="odd has no gate_proj"):
        Injection(Odd(), 2)
