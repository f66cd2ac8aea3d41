"""An adapter added to the weights for a while: generating latents without gradient then costs what the backbone does.

The frozen layers keep their own weights. A copy of them holds the sum; it is written anew whenever the adapter has
changed, and stands in for the layers with adapters only while latents are generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from model.refusal import Refusal


class MergedLayers:
    """Plain linear layers in the place of a PeftModel's, with one adapter's weights added to their own.

    Costs the memory of a second copy of those layers' weights. ValueError for layers that are no plain linear ones, in
    4 bits say.
    """

    def __init__(self, wrapped: PeftModel, adapter: str):
        self.adapter = adapter
        self.places = [
            (parent, name, layer)
            for parent in wrapped.modules()
            for name, layer in parent.named_children()
            if isinstance(layer, BaseTunerLayer)
        ]
        self.merged = [_like(layer) for _, _, layer in self.places]

    @torch.no_grad()
    def refill(self) -> None:
        """Add the adapter, as it is now, to the weights. In one product a layer: 0.04 s for SmolLM2, where peft's own
        difference, made first and then added, takes 0.12."""
        for (_, _, layer), merged in zip(self.places, self.merged, strict=True):
            own, into = layer.get_base_layer().weight, merged.weight
            down, up = (part[self.adapter].weight for part in (layer.lora_A, layer.lora_B))
            torch.addmm(own, up, down, alpha=layer.scaling[self.adapter], out=into)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The merged layers for a while. Forwards without gradient only: they have nothing that trains."""
        for (parent, name, _), merged in zip(self.places, self.merged, strict=True):
            parent._modules[name] = merged
        try:
            yield
        finally:
            for parent, name, layer in self.places:
                parent._modules[name] = layer


def _like(layer: BaseTunerLayer) -> nn.Linear:
    own = layer.get_base_layer()
    if type(own) is not nn.Linear:
        raise Refusal(f"a layer of kind {type(own).__name__} cannot be merged with its adapter")
    merged = nn.Linear(own.in_features, own.out_features, bias=False, device="meta")
    merged.weight = nn.Parameter(torch.empty_like(own.weight), requires_grad=False)
    merged.bias = own.bias
    return merged
