"""DyPRAG's translator: the backbone's last state of a text becomes a low-rank difference of the backbone's weights.

A pair of small networks for each MLP projection makes its two factors: width + 1 -> 32 -> factor, ReLU between, no
bias, float32. Their input is the state with the block's number after it.
Shapes: B texts, D the backbone's width, G networks, H hidden units, V values of a difference.
Source: DyPRAG (arXiv 2503.23895).
"""

from __future__ import annotations

import torch
from torch import nn

from model.backbone import Backbone
from model.baselines.injection import Injection

HIDDEN = 32
PUBLISHED_DEVIATION = 1e-7  # of all weights at the start


class Translator(nn.Module):
    """`small_start`: weights drawn as published, so near to zero that little is ever learned. Otherwise the first layer
    is drawn to keep its input's size, A as LoRA draws it, and B is zero: nothing changes yet, and all can learn."""

    def __init__(self, injection: Injection, width: int, *, small_start: bool, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        blocks = [place.block for place in injection.places for _ in range(2)]
        self.register_buffer("blocks_G", torch.tensor(blocks, dtype=torch.float32), persistent=False)
        first_GHD = torch.randn(len(blocks), HIDDEN, width + 1, generator=generator)
        self.first_GHD = nn.Parameter(first_GHD * (PUBLISHED_DEVIATION if small_start else (width + 1) ** -0.5))
        second = []
        for place in injection.places:
            for size, deviation in (
                (place.middle - place.first, (HIDDEN * place.layer.in_features) ** -0.5),
                (place.end - place.middle, 0.0),
            ):
                drawn = torch.randn(size, HIDDEN, generator=generator)
                second.append(nn.Parameter(drawn * (PUBLISHED_DEVIATION if small_start else deviation)))
        self.second = nn.ParameterList(second)

    def forward(self, states_BD: torch.Tensor) -> torch.Tensor:
        """float32 [B, V]"""
        plain_BGH = torch.einsum("bd,ghd->bgh", states_BD, self.first_GHD[..., :-1])
        hidden_BGH = torch.relu(plain_BGH + self.blocks_G[:, None] * self.first_GHD[..., -1])
        return torch.cat([hidden_BGH[:, g] @ weight.T for g, weight in enumerate(self.second)], dim=1)


@torch.no_grad()
def last_states(backbone: Backbone, ids_BL: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
    """float32 [B, D]: the last layer's state of each text's last token. All of a text passes through it."""
    hidden_BLD = backbone.body(inputs_embeds=backbone.embed(ids_BL), use_cache=False).last_hidden_state
    return hidden_BLD[torch.arange(len(ids_BL), device=ids_BL.device), lengths_B - 1].float()
