"""A KV cache that is allocated once: a step writes its keys and values in place instead of copying all before them.

Shapes: B rows, H key-value heads, S positions, C room, d head width.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer


class RoomyLayer(DynamicLayer):
    """A layer's keys and values [B, H, C, d], handed out as a view of the first S."""

    is_croppable = False

    def __init__(self, room: int):
        super().__init__()
        self.room = room
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        batch, heads, _, width = key_states.shape
        self.keys = key_states.new_empty(batch, heads, self.room, width)
        self.values = value_states.new_empty(batch, heads, self.room, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs):
        """Write S new positions; return views of all positions so far, [B, H, S, d] each."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[-2]
        if self.length > self.room:
            raise ValueError(f"the cache has room for {self.room} positions and was asked to hold {self.length}")
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


def roomy_cache(config: PreTrainedConfig, room: int) -> Cache:
    """One layer a hidden layer, each with room for `room` positions."""
    return Cache(layers=[RoomyLayer(room) for _ in range(config.get_text_config().num_hidden_layers)])
