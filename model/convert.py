"""A GGUF's weights and tokenizer as a clean model folder.

Loading the GGUF takes 10-30 seconds, `save_pretrained` refuses what comes out, and its tokenizer has lost SmolLM2's
digit splitting; so model and tokenizer are rebuilt and saved once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers.modeling_gguf_pytorch_utils as gguf_reader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils import logging

from model.quiet import quiet_loading


@quiet_loading()
def convert(file: Path, folder: Path) -> None:
    """Write config.json, model.safetensors (fp32) and tokenizer files; the folder appears whole. Prints nothing."""
    with _no_bars():
        _convert(file, folder)


def _convert(file: Path, folder: Path) -> None:
    gguf = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    settings = gguf.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "architectures", "dtype"):
        settings.pop(key, None)
    clean = LlamaForCausalLM(LlamaConfig(**settings))
    clean.load_state_dict(gguf.state_dict(), strict=True)
    clean.tie_weights()
    tokenizer = _digit_splitting(AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name))
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        clean.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without config.json: torn by an earlier version
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without transformers' bars. The one over a GGUF's tensors is tqdm's own, and heeds no setting of transformers."""
    before = logging.set_tqdm_hook(lambda bar, args, kwargs: bar(*args, **kwargs | {"disable": True}))
    own, gguf_reader.tqdm = gguf_reader.tqdm, lambda tensors, **_: tensors
    try:
        yield
    finally:
        gguf_reader.tqdm = own
        logging.set_tqdm_hook(before)


def _digit_splitting(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """SmolLM2 reads one digit a token; the conversion from GGUF loses that rule."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer
