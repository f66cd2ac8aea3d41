"""Noise on the text that the decoder reads in training, so that one wrong word does not drag the next ones along.

Under teacher forcing a decoder never meets a mistake of its own; free-running it does, and leans on it. What it is to
say stays the text itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STREAM = 1  # of random numbers, beside the sampler's


def noisy(chunks: Sequence[np.ndarray], share: float, *, seed: int, step: int) -> list[np.ndarray]:
    """Copies of the chunks of a step, each token with this chance another one, drawn from the step's own text.

    So a word stands in as often as it is written. A function of its arguments alone: a resume, on any number of
    workers, draws the same.
    """
    rng = np.random.default_rng((seed, step, STREAM))
    text_T = np.concatenate(chunks)
    replaced_T = rng.random(len(text_T)) < share
    read_T = np.where(replaced_T, rng.choice(text_T, len(text_T)), text_T)
    return np.split(read_T, np.cumsum([len(chunk) for chunk in chunks])[:-1])
