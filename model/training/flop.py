"""FLOP of a training step, counted from what it computes."""

from __future__ import annotations

import numpy as np

from model.training.curriculum import Place


def step_flop(
    weights: int, head: int, lengths: np.ndarray, place: Place, num_latents: int, *, feeds_back: bool = True
) -> float:
    """FLOP of a step through the frozen backbone: 2 a weight and position forward, as much again for the gradient of
    the activations; generating the fed-back latents is forward only, and parallel latents have none. `head`: weights of
    the LM head."""
    lengths = np.asarray(lengths)
    labels = float((lengths + 1).sum())
    if place.stage == 1:
        trained, generated = float((2 * lengths + 1).sum()), 0.0
    else:
        s = place.substage
        tail = lengths - -(-lengths * s // num_latents)
        trained = float((lengths + s + (s + tail + 1 + lengths)).sum())
        generated = float((lengths + s - 1).sum()) if s > 1 and feeds_back else 0.0
    return 4.0 * weights * trained + 2.0 * weights * generated + 4.0 * head * labels
