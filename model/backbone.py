"""Load the frozen causal LM a codec stands on, in one precision, on one device, with its tokenizer.

Shapes: B rows, S positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from model.embedded import EMBEDDED, embedded_folder
from model.tiny import FAMILIES, tiny_model, tiny_tokenizer
from model.tokens import TextTokenizer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
ATTENTION = {"fp32": "sdpa", "bf16": "eager"}
FINGERPRINT_BLOCK = 65536
FINGERPRINT_BLOCKS = 16


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen causal LM. `fingerprint` is the same for the same weights, whatever folder or precision they load in."""

    name: str
    model: PreTrainedModel
    tokenizer: TextTokenizer
    fingerprint: str
    precision: str

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
    def device(self) -> torch.device:
        return self.embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype


def load_backbone(
    name: str, *, precision: str = "auto", device: str = "auto", load_in_4bit: bool = False, attention: str = "auto"
) -> Backbone:
    """`smollm2-135m` (embedded), `tiny-llama` / `tiny-qwen3` (tests), a model folder, or a Hugging Face id.

    Attention is eager in bf16, where verifying and recalling must round alike, and sdpa in fp32, where the margin
    covers the difference (docs/decisions.md).
    Raises ModuleNotFoundError with the install line where the embedded weights are missing; OSError where the hub or
    the folder has no such model.
    """
    device = default_device() if device == "auto" else device
    precision = default_precision(device) if precision == "auto" else precision
    attention = ATTENTION[precision] if attention == "auto" else attention
    if name in FAMILIES:
        model, tokenizer = tiny_model(name).to(DTYPES[precision]), tiny_tokenizer()
        model.set_attn_implementation(attention)
        fingerprint = hashlib.sha256(f"{name} seed 0".encode()).hexdigest()[:32]
    else:
        source = _source(name)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[precision], attn_implementation=attention, **_four_bit(load_in_4bit, precision)
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
        fingerprint = _fingerprint(model, source)
    model.requires_grad_(False).eval()
    if not load_in_4bit:
        model.to(device)
    return Backbone(name, model, TextTokenizer(tokenizer), fingerprint, precision)


def load_tokenizer(name: str) -> TextTokenizer:
    """The tokenizer of a backbone, without its weights."""
    if name in FAMILIES:
        return TextTokenizer(tiny_tokenizer())
    return TextTokenizer(AutoTokenizer.from_pretrained(_source(name)))


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(device: str) -> str:
    """bf16 where the processor multiplies it in hardware; on a CPU that emulates it, fp32 is 7 times faster."""
    if device != "cpu":
        return "bf16"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if any(able.get(feature) for feature in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")) else "fp32"


def _source(name: str) -> str:
    """A folder, or a Hugging Face id."""
    if name == EMBEDDED:
        return str(embedded_folder())
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or path.exists()
    if looks_local and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{name} is not a model folder: it has no config.json. Name one, or a Hugging Face id.")
    return str(path) if looks_local else name


def _four_bit(wanted: bool, precision: str) -> dict:
    if not wanted:
        return {}
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPES[precision]
    )
    return {"quantization_config": quantization}


def _fingerprint(model: PreTrainedModel, source: str) -> str:
    """Hash of the weight files' sizes and of blocks sampled across them: the same for every precision and folder."""
    digest = hashlib.sha256()
    for path in sorted(_weight_files(model, source), key=lambda p: p.name):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for i in range(FINGERPRINT_BLOCKS):
                file.seek(max(0, size - FINGERPRINT_BLOCK) * i // (FINGERPRINT_BLOCKS - 1))
                digest.update(file.read(FINGERPRINT_BLOCK))
    return digest.hexdigest()[:32]


def _weight_files(model: PreTrainedModel, source: str) -> Iterator[Path]:
    from transformers.utils import cached_file

    folder = Path(source)
    if not folder.is_dir():
        folder = Path(cached_file(source, "config.json", revision=model.config._commit_hash)).parent
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    if not files:
        raise FileNotFoundError(f"{source} has no weights: no *.safetensors in {folder}")
    yield from files
