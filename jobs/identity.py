"""What a bank's properties say of a codec folder."""

from __future__ import annotations

from pathlib import Path

from model.codec_folder import read_settings
from model.config import CodecConfig, ExactConfig
from pipeline.identity import CodecIdentity


def codec_identity(codec_folder: str | Path, exact: ExactConfig) -> CodecIdentity:
    """What a bank's properties say of the codec in a folder."""
    settings = read_settings(codec_folder)
    config = CodecConfig(**settings["config"])
    return CodecIdentity(
        backbone=settings["backbone"],
        codec_hash=settings["identity"],
        tokenizer_hash=settings["tokenizer_fingerprint"],
        num_latents=config.num_latents,
        hidden_width=settings["hidden_width"],
        quantiser=config.quantiser,
        pooling=config.pooling,
        embedding_width=settings["embedding_width"],
        verify_precision=exact.precision,
        verify_margin=exact.margin,
    )
