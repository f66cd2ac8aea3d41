"""The codec that a benchmark measures, and how its batches are made."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.harness import token_chunks
from model.backbone import default_device
from model.codec import Codec
from model.codec_io import load_codec
from model.config import VerifyConfig
from model.default_codec import default_codec_folder
from model.precision import default_precision

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--codec", help="codec folder; default: the backbone's default one")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])


def named_precision(wanted: str) -> str:
    return default_precision(default_device()) if wanted == "auto" else wanted


def the_codec(
    arguments: argparse.Namespace, *, verifying: VerifyConfig | None = None, precision: str | None = None
) -> Codec:
    """The codec that the options name. `exact` and `precision` go before the options' own."""
    folder = arguments.codec or default_codec_folder(arguments.backbone)
    precision = precision or named_precision(arguments.precision)
    return load_codec(folder, backbone_name=arguments.backbone, verifying=verifying or VerifyConfig.of(precision))


def full_batch(codec: Codec, corpus: str, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [B, L] and lengths [B] of real chunks that are all full: no padding, as in most of a corpus."""
    limit = codec.config.chunk_tokens
    return codec.pad(token_chunks(corpus, codec.tokenizer, limit, size, shortest=limit))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Torch's threads for a while; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
