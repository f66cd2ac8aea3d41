"""The embedding head: latents to one vector, and a light side that embeds queries without the backbone's layers.

Both sides are attention pooling with a residual layer; what they pool differs. Passages: the chunk's standardised
latents. Queries: the backbone's token embeddings, each weighted by what its token is worth, so that a query costs no
forward and needs no filling up. Shapes: B texts, L items pooled, K latents, D hidden width, V vocabulary, H attention
heads, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, normalize

WIDTH, HEADS = 384, 8
PREFIX = "head."  # of its tensors in a codec folder


class AttentionPool(nn.Module):
    """Items [B, L, D] to one vector [B, E] of length 1. Each of H heads weighs the items and adds E / H values."""

    def __init__(self, width: int, kinds: int, embedding_width: int, heads: int):
        super().__init__()
        self.look = nn.Linear(width, heads, bias=False)
        self.worth = nn.Parameter(torch.zeros(kinds))  # of an item by its kind: a latent's place, or a token's id
        self.value = nn.Linear(width, embedding_width)
        self.mix = nn.Linear(embedding_width, embedding_width)

    def forward(self, items_BLD: torch.Tensor, kinds_BL: torch.Tensor, present_BL: torch.Tensor) -> torch.Tensor:
        scores_BLH = self.look(items_BLD) + self.worth[kinds_BL][..., None]
        shares_BLH = scores_BLH.masked_fill(~present_BL[..., None], -torch.inf).softmax(dim=1)
        values_BLHe = self.value(items_BLD).unflatten(-1, (shares_BLH.shape[-1], -1))
        pooled_BE = (shares_BLH[..., None] * values_BLHe).sum(dim=1).flatten(1)
        return normalize(pooled_BE + self.mix(gelu(pooled_BE)), dim=-1)

    def average(self, items_BLD: torch.Tensor, kinds_BL: torch.Tensor, present_BL: torch.Tensor) -> torch.Tensor:
        """[B, D]: the items' mean by what their kinds are worth, whatever they hold."""
        shares_BL = self.worth[kinds_BL].masked_fill(~present_BL, -torch.inf).softmax(dim=1)
        return (shares_BL[..., None] * items_BLD).sum(dim=1)

    @torch.no_grad()
    def begin(self, weight_DE: torch.Tensor, bias_E: torch.Tensor) -> None:
        """Be a linear map of `average`, from which learning goes on."""
        self.value.weight.copy_(weight_DE.T)
        self.value.bias.copy_(bias_E)
        for part in (self.look.weight, self.mix.weight, self.mix.bias):
            part.zero_()


class MeanPooling:
    """What a codec without a head embeds by: the mean of the latents, projected where the backbone is wide."""

    def __init__(self, width: int, projection_DE: torch.Tensor | None, device: torch.device):
        self.embedding_width = width if projection_DE is None else projection_DE.shape[1]
        self._projection_DE = None if projection_DE is None else projection_DE.to(device, torch.float32)

    def embed_latents(self, standardised_BKD: torch.Tensor) -> torch.Tensor:
        """float32 [B, E] of standardised latents."""
        pooled_BD = standardised_BKD.mean(dim=1)
        pooled_BE = pooled_BD if self._projection_DE is None else pooled_BD @ self._projection_DE
        return normalize(pooled_BE, dim=-1)


class PoolingHead(nn.Module):
    """Both sides. float32, on the CPU or beside the latents."""

    def __init__(self, width: int, latents: int, vocabulary: int, embedding_width: int = WIDTH, heads: int = HEADS):
        super().__init__()
        self.passages = AttentionPool(width, latents, embedding_width, heads)
        self.queries = AttentionPool(width, vocabulary, embedding_width, heads)

    @property
    def embedding_width(self) -> int:
        return self.passages.value.out_features

    def embed_latents(self, standardised_BKD: torch.Tensor) -> torch.Tensor:
        """float32 [B, E] of standardised latents; of the first few, where there are fewer than K."""
        return self.passages(*latent_items(standardised_BKD))

    def embed_tokens(self, embeds_BLD: torch.Tensor, ids_BL: torch.Tensor, lengths_B: torch.Tensor) -> torch.Tensor:
        """float32 [B, E] of right-padded token ids and the backbone's embeddings of them."""
        return self.queries(*token_items(embeds_BLD, ids_BL, lengths_B))

    def tensors(self) -> dict[str, torch.Tensor]:
        """By name, as a codec folder holds them: bfloat16, which the head is rounded to before it is used."""
        return {PREFIX + name: tensor.detach().bfloat16().cpu() for name, tensor in self.state_dict().items()}


Items = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # [B, L, D], their kinds [B, L], which are present [B, L]


def latent_items(standardised_BKD: torch.Tensor) -> Items:
    """What the passages' side pools: latents, each of the kind of its place."""
    batch, latents, _ = standardised_BKD.shape
    kinds_BK = torch.arange(latents, device=standardised_BKD.device).expand(batch, -1)
    return standardised_BKD.float(), kinds_BK, torch.ones_like(kinds_BK, dtype=torch.bool)


def token_items(embeds_BLD: torch.Tensor, ids_BL: torch.Tensor, lengths_B: torch.Tensor) -> Items:
    """What the queries' side pools: the backbone's embeddings, each of the kind of its token."""
    present_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device) < lengths_B[:, None]
    return layer_norm(embeds_BLD.float(), embeds_BLD.shape[-1:]), ids_BL, present_BL


def head_of(tensors: Mapping[str, torch.Tensor]) -> PoolingHead | None:
    """The head among a codec's tensors, in float32; None where there is none. KeyError for one that is not whole."""
    own = {name.removeprefix(PREFIX): tensor.float() for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not own:
        return None
    embedding_width, width = own["passages.value.weight"].shape
    latents, vocabulary = len(own["passages.worth"]), len(own["queries.worth"])
    head = PoolingHead(width, latents, vocabulary, embedding_width, len(own["passages.look.weight"]))
    head.load_state_dict(own)
    return head.eval().requires_grad_(False)


def padded(texts: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids [B, L] and lengths [B] of token ids, one array a text."""
    lengths_B = torch.tensor([len(ids) for ids in texts])
    ids_BL = torch.zeros(len(texts), int(lengths_B.max()), dtype=torch.long)
    for row, ids in zip(ids_BL, texts, strict=True):
        row[: len(ids)] = torch.from_numpy(np.asarray(ids, np.int64))
    return ids_BL, lengths_B
