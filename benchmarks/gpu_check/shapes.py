"""Backbones of a known shape with random weights: speed asks for no download, only for the right products."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from model.backbone import ATTENTION, DTYPES, Backbone
from model.bytes_tokenizer import bytes_tokenizer
from model.tokens import TextTokenizer

FAMILIES = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
SHAPES = {  # from each model's config.json
    "smollm2-135m": (
        "llama",
        {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "tie_word_embeddings": True},
    ),
    "qwen3-0.6b": (
        "qwen3",
        {"vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
         "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True},
    ),
    "qwen3-8b": (
        "qwen3",
        {"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False},
    ),
}  # fmt: skip
TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}  # fmt: skip


def random_backbone(name: str, precision: str, device: str, *, tiny: bool = False) -> Backbone:
    """Made on the device itself, in its precision: 8B weights in seconds. `tiny`: two layers of the same family."""
    family, shape = SHAPES[name]
    config_class, model_class = FAMILIES[family]
    config = config_class(**(shape | (TINY if tiny else {})), bos_token_id=0, eos_token_id=0, pad_token_id=None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[precision])
    try:
        with torch.device(device):
            model = model_class(config)
    finally:
        torch.set_default_dtype(before)
    model.set_attn_implementation(ATTENTION[precision])
    model.requires_grad_(False).eval()
    return Backbone(f"random {name}", model, TextTokenizer(bytes_tokenizer()), f"random {name}", precision)


def weight_bytes(name: str) -> int:
    """Of the shape in bf16."""
    _, shape = SHAPES[name]
    width, heads, kept = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    attention = width * shape["head_dim"] * 2 * (heads + kept)
    layer = attention + 3 * width * shape["intermediate_size"]
    embeddings = shape["vocab_size"] * width * (1 if shape["tie_word_embeddings"] else 2)
    return 2 * (shape["num_hidden_layers"] * layer + embeddings)
