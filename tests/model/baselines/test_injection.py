"""Weights that hold a text: what an injected difference does, and that it is read at all."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch

from model.backbone import Backbone, load_backbone
from model.baselines.chunk_lora import ChunkLora, ChunkLoraConfig
from model.baselines.injection import Injection, fit
from model.baselines.repeat import repeating
from model.training.losses import make_batch

RANK = 2
CHUNKS = [np.random.default_rng(i).integers(3, 259, size=n) for i, n in enumerate((12, 9))]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny-llama", precision="fp32", device="cpu", attention="sdpa")


@torch.no_grad()
def logits(backbone: Backbone, ids_BL: torch.Tensor) -> torch.Tensor:
    return backbone.head(backbone.body(input_ids=ids_BL, use_cache=False).last_hidden_state)


def random_delta(injection: Injection, rows: int) -> torch.Tensor:
    return torch.randn(rows, injection.values, generator=torch.Generator().manual_seed(0)) * 0.1


IDS = torch.tensor([[5, 9, 7, 30], [8, 8, 4, 3]])


def test_nothing_injected_changes_nothing_and_something_changes_the_logits(backbone):
    injection, plain = Injection(backbone, RANK), logits(backbone, IDS)
    with injection.of(torch.zeros(2, injection.values)):
        assert torch.equal(logits(backbone, IDS), plain)
    with injection.of(injection.start().expand(2, -1)):  # B is zero
        assert torch.equal(logits(backbone, IDS), plain)
    with injection.of(random_delta(injection, 2)):
        assert (logits(backbone, IDS) - plain).abs().amax(dim=(1, 2)).min() > 0.01  # of each row: it is no no-op
    assert torch.equal(logits(backbone, IDS), plain), "the hooks stayed"


def test_an_injected_difference_is_the_same_as_weights_with_it_added(backbone):
    injection = Injection(backbone, RANK)
    delta_BV = random_delta(injection, 2)
    with injection.of(delta_BV, scale=3.0):
        found = logits(backbone, IDS)
    for row in range(2):
        merged = deepcopy(backbone.model)
        own = Injection(Backbone("merged", merged, backbone.tokenizer, "", "fp32"), RANK)
        for place in own.places:
            down, up = own.factors(delta_BV[row : row + 1], place)
            place.layer.weight.data += 3.0 * (down[0] @ up[0]).T
        alone = merged(input_ids=IDS[row : row + 1], use_cache=False).logits
        assert torch.allclose(found[row : row + 1], alone, atol=1e-4)


def test_the_rows_of_a_batch_learn_as_if_alone(backbone):
    injection = Injection(backbone, RANK)

    def fitted(chunks):
        batch = make_batch(chunks, backbone.device)
        start = injection.start().expand(len(chunks), -1)
        loss = lambda: repeating(backbone, batch).loss  # noqa: E731
        return fit(injection, start, loss, steps=3, rate=1e-2, scale=16.0)

    together = fitted(CHUNKS)
    assert torch.allclose(together[0], fitted(CHUNKS[:1])[0], atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_a_lora_of_its_own_gives_a_chunk_back(backbone):
    made = ChunkLora(backbone, ChunkLoraConfig(steps=60, learning_rate=1e-2))
    delta_BV = made.encode(CHUNKS)
    assert delta_BV.dtype == torch.float16 and delta_BV.shape == (2, made.injection.values)
    assert [ids.tolist() for ids in made.decode(delta_BV, [12, 9])] == [ids.tolist() for ids in CHUNKS]
    swapped = made.decode(delta_BV.flip(0), [12, 9])
    assert swapped[1].tolist() != CHUNKS[1].tolist()


def test_a_lora_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps of a chunk's LoRA is 0"):
        ChunkLoraConfig(steps=0)
