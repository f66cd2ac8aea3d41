"""Latents that are generated with merged weights are those of the adapter, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from test_losses import K, batch, gradients, trainee

from model.training.curriculum import TrainConfig
from model.training.losses import _fed_back, stage2_loss
from model.training.trainee import Trainee
from model.training.trainer import Trainer

TOLERANCE = {"fp32": 1e-5, "bf16": 4e-2}


def fed_back(made: Trainee) -> torch.Tensor:
    with made.adapter("encoder"):
        return _fed_back(made, batch(), K).float()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["tiny-llama", "tiny-qwen3"])
def test_merged_weights_generate_the_latents_of_the_adapter(family, precision):
    made = trainee(family)
    if precision == "bf16":
        made.backbone.model.bfloat16()
    apart = fed_back(made)
    made.merge_to_generate()
    with made.unchanged():
        merged = fed_back(made)
    error_BK = (merged - apart).norm(dim=-1) / apart.norm(dim=-1)
    assert error_BK[:, 0].max() < TOLERANCE[precision]
    if precision == "fp32":  # in bf16 each latent multiplies what differs in the one before
        assert error_BK.max() < 10 * TOLERANCE[precision]
    assert not torch.equal(merged, apart), "they were not generated otherwise"


def test_gradients_are_those_of_the_adapter_apart_and_layers_are_put_back():
    made, several = trainee(gain="linear"), batch()
    layers = [module for module in made.wrapped.modules()]
    wanted = gradients(made, stage2_loss(made, several, K))
    made.merge_to_generate()
    with made.unchanged():
        found = gradients(made, stage2_loss(made, several, K))
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item()), name
    assert all(now is before for now, before in zip(made.wrapped.modules(), layers, strict=True))


def test_merged_weights_follow_the_adapter_from_step_to_step():
    """Training takes the steps that it takes with the adapter apart."""
    chunks = [row[:length].numpy() for row, length in zip(batch().ids_BL, batch().lengths_B, strict=True)]
    losses = {}
    for merged in (True, False):
        made = Trainer(trainee(), TrainConfig(merged=merged, warmup_steps=0, learning_rate=1e-2))
        place = made.curriculum.next(made.curriculum.start())
        while place.substage < K:
            place = made.curriculum.next(place)
        made.make_optimizer(place)
        steps = [made.step(chunks, place).loss for _ in range(4)]
        losses[merged] = [*steps, made.look(chunks, place).loss]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses[True][-1] < losses[True][0] - 0.1


def test_layers_that_are_no_plain_linear_ones_are_refused_by_kind():
    made = trainee()
    layer = made.backbone.body.layers[0].mlp.up_proj
    layer.base_layer = type("Linear4bit", (torch.nn.Linear,), {})(64, 128, bias=False)
    with pytest.raises(ValueError, match="a layer of kind Linear4bit cannot be merged"):
        made.merge_to_generate()
