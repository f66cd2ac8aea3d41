"""A tiny codec whose decoder knows a few chunks by heart, so that its patches are small and its latents matter."""

from __future__ import annotations

import numpy as np
import torch

from model.adapters import add_adapters
from model.backbone import DTYPES, Backbone
from model.bytes_tokenizer import bytes_tokenizer
from model.codec import Codec
from model.codec_io import make_codec
from model.config import CodecConfig
from model.tiny import tiny_model
from model.tokens import TextTokenizer
from model.untrained import base_marker, untrained_codec

TEXTS = (
    "The lamp in the hall burned all night.",
    "Seven grey geese crossed the border.",
    "No one had opened the box since 1911.",
    "Rain fell; the river rose by a foot.",
    "Ask the miller, he knows every road.",
    "A letter came for you on Tuesday.",
    "Copper is soft, and bronze is not.",
    "She counted the stars and lost count.",
)
CONFIG = CodecConfig(lora_rank=16, lora_alpha=32, latent_gain="fixed")
STEPS = 60


def tiny_backbone(family: str = "tiny-llama", *, hidden_size: int = 128, precision: str = "fp32") -> Backbone:
    """One of our own: adapters change a backbone in place, so it is not the one that other tests share."""
    model = tiny_model(family, hidden_size=hidden_size).to(DTYPES[precision]).requires_grad_(False).eval()
    model.set_attn_implementation({"fp32": "sdpa", "bf16": "eager"}[precision])
    return Backbone(f"{family}-{hidden_size}", model, TextTokenizer(bytes_tokenizer()), "f" * 32, precision)


def text_chunks(backbone: Backbone) -> list[np.ndarray]:
    return [np.array(backbone.tokenizer.encode(text), dtype=np.int32) for text in TEXTS]


def overfitted_codec() -> Codec:
    """Random encoder adapter; the decoder adapter is trained on its latents, as recall will read them."""
    backbone = tiny_backbone()
    plain = untrained_codec(backbone, CONFIG)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wrapped = add_adapters(backbone, CONFIG)
        for name, tensor in wrapped.named_parameters():
            if "lora_B.encoder" in name:
                tensor.normal_(std=0.05)
    parts = dict(marker_D=base_marker(backbone, "repeat"), gain=plain.gain, statistics=plain.statistics)
    codec = make_codec(backbone, CONFIG, **parts, wrapped=wrapped)
    train_decoder(codec, text_chunks(backbone))
    return make_codec(backbone, CONFIG, **parts, wrapped=wrapped)


def train_decoder(codec: Codec, chunks: list[np.ndarray]) -> None:
    ids_BL, lengths_B = codec.pad(chunks)
    latents_BKD = codec.dequantise(*codec.quantise(codec.encode(ids_BL, lengths_B))).clone()
    prefix_BSD, embeds_BLD = codec.prefix(latents_BKD), codec.backbone.embed(ids_BL[:, :-1])
    real_BL = torch.arange(ids_BL.shape[1]) < lengths_B[:, None]
    codec.wrapped.base_model.set_adapter("decoder")
    trained = [tensor for tensor in codec.wrapped.parameters() if tensor.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for _ in range(STEPS):
        states = codec.backbone.body(inputs_embeds=torch.cat([prefix_BSD, embeds_BLD], 1)).last_hidden_state
        logits_BLV = codec.backbone.head(states[:, prefix_BSD.shape[1] - 1 :])
        loss = torch.nn.functional.cross_entropy(logits_BLV[real_BL], ids_BL[real_BL])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codec.wrapped.requires_grad_(False)
