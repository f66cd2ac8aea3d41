"""How many latents a step of nested training reads: so that the first few of a chunk are a memory of all of it.

Without it, the first s of K latents stand for the text's first s segments, and the decoder is given the rest as text.
Nested, it is given s latents and no text, and is to say all of the text. Source of drawing a prefix a step: Matryoshka
representations (arXiv 2205.13147), where it is the width that is cut.
"""

from __future__ import annotations

import numpy as np

STREAM = 2  # of random numbers, beside the sampler's and the noise's


def drawn(most: int, *, seed: int, step: int) -> int:
    """1 to `most`, each as likely. A function of its arguments alone, so that every worker and a resume draw it too."""
    return int(np.random.default_rng((seed, step, STREAM)).integers(1, most + 1))
