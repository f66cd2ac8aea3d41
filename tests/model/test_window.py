"""A row drafted alone, several positions a forward, against one position a forward."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.backbone import Backbone
from model.finite import NotFiniteError
from model.latents import draft_tokens
from model.window import draft_alone

LONG = 70


@pytest.fixture(scope="module")
def double(tiny) -> Backbone:
    """In double precision rounding turns no near tie."""
    return replace(tiny, model=deepcopy(tiny.model).double())


def a_prefix(backbone: Backbone, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(5, backbone.width, generator=random, dtype=torch.float32).to(backbone.dtype)


def some_forced(backbone: Backbone, share: float, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    ids_L = random.integers(3, backbone.vocab_size, LONG)
    return np.where(random.random(LONG) < share, ids_L, -1)


def step_by_step(backbone: Backbone, prefix_SD: torch.Tensor, forced_L: np.ndarray) -> np.ndarray:
    return draft_tokens(backbone, prefix_SD[None], torch.from_numpy(forced_L)[None])[0].numpy()


def forwards(backbone: Backbone, monkeypatch) -> list[int]:
    """The positions of each forward from here on."""
    lengths, forward = [], backbone.body.forward

    def counted(*args, **named):
        lengths.append(named["inputs_embeds"].shape[1])
        return forward(*args, **named)

    monkeypatch.setattr(backbone.body, "forward", counted)
    return lengths


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("guesses", [1, 6, 100])
@torch.inference_mode()
def test_a_window_drafts_what_one_position_at_a_time_does(double, share, guesses):
    for seed in range(3):
        prefix_SD, forced_L = a_prefix(double, seed), some_forced(double, share, seed)
        expected_L = step_by_step(double, prefix_SD, forced_L)
        assert draft_alone(double, prefix_SD, forced_L, guesses=guesses).tolist() == expected_L.tolist()


@torch.inference_mode()
def test_forced_tokens_are_read_many_at_once_and_no_forward_is_one_position_long(double, monkeypatch):
    forced_L = some_forced(double, 0.8)
    lengths = forwards(double, monkeypatch)
    draft_alone(double, a_prefix(double), forced_L)
    free = int((forced_L < 0).sum())
    assert len(lengths) - 1 <= free + LONG // 32 < LONG // 2
    assert min(lengths) >= 2


@torch.inference_mode()
def test_a_row_of_one_token_is_drafted(double):
    for forced_L in (np.array([7]), np.array([-1])):
        expected = step_by_step(double, a_prefix(double), forced_L).tolist()
        assert draft_alone(double, a_prefix(double), forced_L).tolist() == expected


@torch.inference_mode()
def test_a_prefix_that_is_no_number_is_refused(double):
    with pytest.raises(NotFiniteError):
        draft_alone(double, torch.full_like(a_prefix(double), float("nan")), some_forced(double, 0.3))
