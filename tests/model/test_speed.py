"""The work of a chunk, and the rate it is compared with."""

from __future__ import annotations

import torch

from model.speed import body_weights, encode_flop, matmul_rate


def test_work_is_two_flop_a_weight_and_position():
    assert encode_flop(100, 128, 15) == 2 * 100 * (128 + 1 + 14)


def test_weights_are_those_of_the_linear_layers(tiny):
    width, inner = 64, 128
    attention = width * width * 2 + width * width // 2 * 2  # queries and output; half as many heads of keys and values
    assert body_weights(tiny) == 2 * (attention + 3 * width * inner)


def test_adapters_do_not_count_as_work_of_the_backbone(trained):
    width, inner = 128, 256
    assert body_weights(trained.backbone) == 2 * (3 * width * width + 3 * width * inner)


def test_the_rate_of_matrix_products_is_measured():
    assert matmul_rate("cpu", torch.float32, seconds=0, size=64) > 1e6
