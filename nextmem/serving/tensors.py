"""Latents as bytes that every framework reads: safetensors, with the chunks' ids in its metadata."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextmem.latents import Latents


def as_safetensors(latents: Latents, as_: str = "embeds") -> bytes:
    """One tensor named `latents` [N, K, D]: `embeds` in the backbone's dtype, `values` as stored, in float32."""
    from safetensors.torch import save

    tensor = latents.as_embeds() if as_ == "embeds" else latents.values
    return save({"latents": tensor.cpu().contiguous()}, metadata={"chunk_ids": json.dumps(latents.chunk_ids)})
