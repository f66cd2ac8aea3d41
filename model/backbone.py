"""Load the frozen causal LM a codec stands on, in one precision, on one device, with its tokenizer.

Shapes: B rows, S positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from model.allocator import keep_freed_memory
from model.precision import default_precision
from model.quiet import quiet_loading
from model.tiny import tiny_model
from model.tokens import TextTokenizer
from model.weights import Weights, find_weights

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ATTENTION = {"fp32": "sdpa", "bf16": "eager"}


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen causal LM. `fingerprint`: of its weight files (model/weights.py)."""

    name: str
    model: PreTrainedModel
    tokenizer: TextTokenizer
    fingerprint: str
    precision: str
    weights: Weights | None = None  # None for a model that was built, not loaded

    def is_named(self, fingerprint: str) -> bool:
        """Whether a recorded fingerprint is of this backbone (model/weights.py)."""
        return fingerprint == self.fingerprint or (self.weights is not None and self.weights.is_named(fingerprint))

    @property
    def body(self) -> nn.Module:
        """Embeddings in, hidden states [B, S, D] after the final norm out."""
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def embed(self) -> nn.Module:
        return self.model.get_input_embeddings()

    @property
    def head(self) -> nn.Module:
        """Hidden states [.., D] to logits [.., V]."""
        return self.model.get_output_embeddings()

    @property
    def width(self) -> int:
        return self.model.config.get_text_config().hidden_size

    @property
    def vocab_size(self) -> int:
        return self.embed.weight.shape[0]

    @property
    def end_token(self) -> int:
        """The end-of-text id; the first where a model has several."""
        ids = self.model.config.get_text_config().eos_token_id
        return ids[0] if isinstance(ids, list) else ids

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    @contextmanager
    def attending(self, kind: str) -> Iterator[None]:
        """Forwards with this attention of transformers' instead of what the backbone was loaded with."""
        config = self.model.config.get_text_config()
        before = config._attn_implementation
        config._attn_implementation = kind
        try:
            yield
        finally:
            config._attn_implementation = before


def load_backbone(
    name: str, *, precision: str = "auto", device: str = "auto", load_in_4bit: bool = False, attention: str = "auto"
) -> Backbone:
    """Any name that `find_weights` knows.

    Attention is eager in bf16, where verifying and recalling must round alike, and sdpa in fp32, where the margin
    covers the difference (docs/decisions.md). On a CPU the process keeps the memory it frees from here on.
    Raises what `find_weights` raises.
    """
    device = default_device() if device == "auto" else device
    precision = default_precision(device) if precision == "auto" else precision
    attention = ATTENTION[precision] if attention == "auto" else attention
    weights = find_weights(name)
    if weights.folder is None:
        model = tiny_model(name).to(DTYPES[precision])
        model.set_attn_implementation(attention)
    else:
        kind = {"dtype": DTYPES[precision], "attn_implementation": attention, **_four_bit(load_in_4bit, precision)}
        with quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(weights.folder, **kind)
    model.requires_grad_(False).eval()
    if not load_in_4bit:
        model.to(device)
    if device == "cpu":
        keep_freed_memory()
    return Backbone(name, model, weights.tokenizer(), weights.fingerprint, precision, weights)


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _four_bit(wanted: bool, precision: str) -> dict:
    if not wanted:
        return {}
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPES[precision]
    )
    return {"quantization_config": quantization}
