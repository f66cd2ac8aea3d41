"""Latents as a model reads them. Shapes: N chunks, K latents, D hidden width."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline import schema

if TYPE_CHECKING:
    import torch

    from model.codec import Codec


@dataclass(frozen=True, slots=True)
class Latents:
    """What a model reads in place of the chunks' texts."""

    chunk_ids: tuple[str, ...]
    values: torch.Tensor  # float32 [N, K, D], dequantised
    _codec: Codec = field(repr=False, compare=False)

    def as_embeds(self) -> torch.Tensor:
        """[N, K, D] in the backbone's dtype, on its device: rows for `inputs_embeds` of the same backbone."""
        return self._codec.as_embeds(self.values)


def latents_of(rows: pa.Table, codec: Codec) -> Latents:
    """Of memory rows and the codec that made them."""
    from pipeline.bank.recall import stored_latents

    return Latents(tuple(rows[schema.CHUNK_ID].to_pylist()), stored_latents(rows, codec), codec)
