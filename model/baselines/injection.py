"""Low-rank differences added to a backbone's MLP projections, each row of a batch its own: weights that hold a text.

They are never multiplied out: a projection's output gets (x A) B on top, A and B a row's own.
Shapes: B rows, S positions, I and O a projection's widths, R rank, V values of a row: A and B of all projections in
turn, block by block, gate, up, down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from model.backbone import Backbone
from model.refusal import Refusal

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Place:
    """One projection: in which block it lies, and where its two factors lie in a row's values."""

    layer: nn.Linear
    block: int
    first: int
    middle: int
    end: int


class Injection:
    """Where a backbone takes differences of one rank. Refusal for a backbone without such projections."""

    def __init__(self, backbone: Backbone, rank: int):
        self.rank = rank
        self.places: list[Place] = []
        self.values = 0
        for block, layer in enumerate(backbone.body.layers):
            for name in PROJECTIONS:
                projection = getattr(getattr(layer, "mlp", None), name, None)
                if projection is None:
                    raise Refusal(f"{backbone.name} has no {name} in its layers: DyPRAG and LoRA per chunk need it")
                self._add(projection, block)

    @contextmanager
    def of(self, delta_BV: torch.Tensor, *, scale: float = 1.0) -> Iterator[None]:
        """Forwards of B rows, each with its own difference. Gradients reach `delta_BV`."""
        with ExitStack() as hooks:
            for place in self.places:
                hook = _adding(*self.factors(delta_BV, place), scale)
                hooks.callback(place.layer.register_forward_hook(hook).remove)
            yield

    def factors(self, delta_BV: torch.Tensor, place: Place) -> tuple[torch.Tensor, torch.Tensor]:
        """A [B, I, R] and B [B, R, O]: views."""
        rows, layer = len(delta_BV), place.layer
        down = delta_BV[:, place.first : place.middle].view(rows, layer.in_features, self.rank)
        up = delta_BV[:, place.middle : place.end].view(rows, self.rank, layer.out_features)
        return down, up

    def start(self, *, seed: int = 0) -> torch.Tensor:
        """float32 [V] that changes nothing and can be trained: A drawn as LoRA's is, B zero."""
        generator = torch.Generator().manual_seed(seed)
        start_V = torch.zeros(self.values)
        for place in self.places:
            bound = place.layer.in_features**-0.5
            start_V[place.first : place.middle].uniform_(-bound, bound, generator=generator)
        return start_V

    def _add(self, layer: nn.Linear, block: int) -> None:
        middle = self.values + layer.in_features * self.rank
        end = middle + layer.out_features * self.rank
        self.places.append(Place(layer, block, self.values, middle, end))
        self.values = end


def fit(
    injection: Injection,
    start_BV: torch.Tensor,
    loss: Callable[[], torch.Tensor],
    *,
    steps: int,
    rate: float,
    scale: float,
) -> torch.Tensor:
    """[B, V] after so many steps of AdamW on each row's own difference. `loss`: a sum over rows, so that no row feels
    another; it is asked with the differences in place."""
    delta_BV = start_BV.clone().requires_grad_()
    optimizer = torch.optim.AdamW([delta_BV], lr=rate, weight_decay=0.0)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            with injection.of(delta_BV, scale=scale):
                loss().backward()
            optimizer.step()
    return delta_BV.detach()


def _adding(down_BIR: torch.Tensor, up_BRO: torch.Tensor, scale: float):
    def add(_module, inputs, output):
        states_BSI = inputs[0]
        return output + scale * (states_BSI @ down_BIR.to(states_BSI.dtype)) @ up_BRO.to(states_BSI.dtype)

    return add
