"""Two-layer random backbones, built in code: the real classes, about 140 thousand parameters.

They are what tests run on, and `--backbone tiny-llama` is there for trying a pipeline without waiting for a model.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from model.bytes_tokenizer import SPECIALS

FAMILIES = {"tiny-llama": (LlamaConfig, LlamaForCausalLM), "tiny-qwen3": (Qwen3Config, Qwen3ForCausalLM)}


def tiny_model(family: str, *, hidden_size: int = 64, seed: int = 0) -> PreTrainedModel:
    """A random two-layer model in fp32. Same family, width and seed: same weights.

    The embeddings are drawn wider than a fresh model's, so that greedy argmaxes are not all near ties.
    """
    config_class, model_class = FAMILIES[family]
    config = config_class(
        vocab_size=len(SPECIALS) + 256,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden_size // 4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,  # its embedding would be zero, and the tied head could never say it: eos is the same token
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config)
