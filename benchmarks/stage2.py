"""A stage-2 step in the parallel form against the s-fold loop: same weights, same batch, same gradients.

    python -m benchmarks.stage2 --backbone smollm2-135m --substage 15 --batch 4

The loop runs the whole prefix again for each latent and keeps each graph, as the method is usually written down. Prints
seconds of both, their ratio, and how far the gradients are apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from model.backbone import load_backbone
from model.config import CodecConfig
from model.training.losses import Batch, Scored, latent_prefix, make_batch, reconstruction, stage2_loss
from model.training.trainee import Trainee


def main() -> None:
    arguments = _arguments()
    backbone = load_backbone(arguments.backbone, precision=arguments.precision, attention="sdpa")
    trainee = Trainee(backbone, CodecConfig(num_latents=max(15, arguments.substage)))
    named = trainee.train(2, "encoder")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trainee.wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    rng = np.random.default_rng(0)
    chunks = [rng.integers(3, backbone.vocab_size, size=arguments.tokens) for _ in range(arguments.batch)]
    batch, s = make_batch(chunks, backbone.device), arguments.substage
    parallel, fast = _timed(lambda: stage2_loss(trainee, batch, s), list(named.values()), arguments.repeats)
    looped, slow = _timed(lambda: _looped_loss(trainee, batch, s), list(named.values()), arguments.repeats)
    apart = float((parallel - looped).norm() / looped.norm())
    print(f"{arguments.backbone} {backbone.precision} on {backbone.device}, {torch.get_num_threads()} threads")
    print(f"{arguments.batch} chunks of {arguments.tokens} tokens, sub-stage {s}")
    print(f"parallel  {fast:.2f} s a step")
    print(f"loop      {slow:.2f} s a step")
    print(f"ratio     {slow / fast:.1f} times; gradients apart by {apart:.1e} of their norm")


def _looped_loss(trainee: Trainee, batch: Batch, substage: int) -> Scored:
    """Full chunks of one length, so rows need no padding."""
    embed, body = trainee.backbone.embed, trainee.backbone.body
    marker = trainee.marker_D.expand(len(batch.ids_BL), 1, -1)
    latents: list[torch.Tensor] = []
    with trainee.adapter("encoder"):
        for _ in range(substage):
            fed = [latent.detach()[:, None] for latent in latents]
            inputs = torch.cat([embed(batch.ids_BL), marker, *fed], dim=1)
            latents.append(body(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -1])
    prefix = latent_prefix(trainee, batch, torch.stack(latents, dim=1))
    with trainee.adapter("decoder"):
        return reconstruction(trainee, prefix, batch)


def _timed(loss: Callable[[], Scored], parameters: list, repeats: int) -> tuple[torch.Tensor, float]:
    """Gradient of the loss, flat, and the best seconds of forward and backward."""
    best = float("inf")
    for _ in range(repeats):
        _wait()
        start = time.perf_counter()
        gradients = torch.autograd.grad(loss().loss, parameters)
        _wait()
        best = min(best, time.perf_counter() - start)
    return torch.cat([gradient.float().flatten() for gradient in gradients]), best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--substage", type=int, default=15)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
