"""Parallel latents: K learned slots after the text, read off in one forward, in place of latents made one by one.

Shapes: B chunks, L text tokens, K slots, P positions, D hidden width.
Source: the In-context Autoencoder (arXiv 2307.06945), whose memory tokens these are.
"""

from __future__ import annotations

import torch

from model.backbone import Backbone
from model.config import CodecConfig


def first_slots(backbone: Backbone, config: CodecConfig) -> torch.Tensor:
    """float32 [K, D] on the CPU, seeded, as long as the backbone's embeddings: drawn from N(0, 1) they would be several
    times longer than anything it has read, and training would begin by shrinking them."""
    slots_KD = torch.randn(config.num_latents, backbone.width, generator=torch.Generator().manual_seed(0))
    length = backbone.embed.weight.float().norm(dim=-1).mean().cpu()
    return torch.nn.functional.normalize(slots_KD, dim=-1) * length


def slot_latents(
    backbone: Backbone, ids_BL: torch.Tensor, lengths_B: torch.Tensor, slots_KD: torch.Tensor
) -> torch.Tensor:
    """Latents [B, K, D] of right-padded ids: the states after the final norm where the slots stand, after each text.

    Fewer slots give the first latents of more: attention is causal. With gradient where the slots or an adapter have.
    """
    slots_KD = slots_KD.to(backbone.device, backbone.dtype)
    places_BK = lengths_B[:, None] + torch.arange(len(slots_KD), device=ids_BL.device)
    rows_B1 = torch.arange(len(ids_BL), device=ids_BL.device)[:, None]
    embeds_BPD = backbone.embed(torch.nn.functional.pad(ids_BL, (0, len(slots_KD))))
    embeds_BPD = embeds_BPD.index_put((rows_B1, places_BK), slots_KD.expand(len(ids_BL), -1, -1))
    with backbone.attending("sdpa"):
        hidden_BPD = backbone.body(inputs_embeds=embeds_BPD, use_cache=False).last_hidden_state
    return hidden_BPD[rows_B1, places_BK]
