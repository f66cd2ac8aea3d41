"""What fast means: the work of encoding a chunk, and the rate of matrix products that this device reaches.

Source of the work: the positions that a chunk costs through the body of the backbone, 2 FLOP a weight and position;
attention's own products are left out (1 % at 128 tokens), and so is the LM head, which encoding never runs.
"""

from __future__ import annotations

import time

import torch

from model.backbone import Backbone


def body_weights(backbone: Backbone) -> int:
    """Weights that every position is multiplied with: the body's linear layers, without embeddings and adapters."""
    layers = (m for name, m in backbone.body.named_modules() if isinstance(m, torch.nn.Linear) and "lora_" not in name)
    return sum(layer.in_features * layer.out_features for layer in layers)


def encode_flop(weights: int, num_tokens: int, num_latents: int) -> int:
    """FLOP to encode one chunk: its tokens, the marker, and all latents but the last."""
    return 2 * weights * (num_tokens + num_latents)


def matmul_rate(device: str | torch.device, dtype: torch.dtype, *, seconds: float = 0.3, size: int = 2048) -> float:
    """FLOP/s of square matrix products, the best of a few tries: the limit that shares are taken of."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    torch.mm(left, right)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end or not best:
        _wait(device)
        start = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _wait(device: str | torch.device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
