"""A config refuses nonsense when made, naming field and value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from model.config import CodecConfig, VerifyConfig


def test_the_defaults_are_the_papers():
    config = CodecConfig()
    assert (config.chunk_tokens, config.num_latents, config.lora_rank, config.lora_alpha) == (128, 15, 16, 32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk_tokens": 8}, "CodecConfig.chunk_tokens is 8; it must be 16 to 4096"),
        ({"chunk_tokens": 5000}, "CodecConfig.chunk_tokens is 5000"),
        ({"num_latents": 0}, "CodecConfig.num_latents is 0; it must be 1 to chunk_tokens"),
        ({"num_latents": 129}, "CodecConfig.num_latents is 129"),
        ({"lora_rank": 0}, "CodecConfig.lora_rank is 0; it must be at least 1"),
        ({"lora_alpha": 0}, "CodecConfig.lora_alpha is 0; it must be at least 1"),
        ({"lora_targets": ""}, "CodecConfig.lora_targets is ''"),
        ({"marker_word": ""}, "CodecConfig.marker_word is ''"),
        ({"latent_gain": "loud"}, "CodecConfig.latent_gain is 'loud'; it must be one of raw, fixed, learned, linear"),
        ({"quantiser": "int8"}, "CodecConfig.quantiser is 'int8'; it must be nf4-standardised-64, or nf4-leading-"),
        ({"pooling": "max"}, "CodecConfig.pooling is 'max'; it must be one of mean-standardised, head"),
        ({"max_embedding_width": 0}, "CodecConfig.max_embedding_width is 0; it must be at least 1"),
    ],
)
def test_nonsense_is_refused_by_field_and_value(change, words):
    with pytest.raises(ValueError, match=words):
        replace(CodecConfig(), **change)


def test_a_config_is_changed_by_replace_only():
    with pytest.raises(FrozenInstanceError):
        CodecConfig().num_latents = 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("fp16", 0.1), "VerifyConfig.precision is 'fp16'"), (("fp32", -0.1), "VerifyConfig.margin is -0.1")],
)
def test_exactness_refuses_nonsense_too(arguments, words):
    with pytest.raises(ValueError, match=words):
        VerifyConfig(*arguments)


def test_bf16_needs_the_wider_margin():
    assert (VerifyConfig.of("fp32").margin, VerifyConfig.of("bf16").margin) == (0.05, 0.5)
