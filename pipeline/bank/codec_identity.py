"""What a bank's properties say of a codec folder."""

from __future__ import annotations

from pathlib import Path

from model.codec_folder import TOKENIZER, read_settings
from model.config import CodecConfig, ExactConfig
from model.refusal import Refusal
from model.tokens import TextTokenizer
from pipeline.bank.identity import CodecIdentity


def codec_identity(codec_folder: str | Path, exact: ExactConfig) -> CodecIdentity:
    """What a bank's properties say of the codec in a folder. Raises ValueError for a torn one, FileNotFoundError."""
    settings = read_settings(codec_folder)
    _require_tokenizer(Path(codec_folder, TOKENIZER), settings["tokenizer_fingerprint"])
    config = CodecConfig.from_dict(settings["config"])
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
        verify_merged=exact.merged,
    )


def exact_config(identity: CodecIdentity) -> ExactConfig:
    """How a bank's rows were verified, which is how they must be recalled."""
    return ExactConfig(identity.verify_precision, identity.verify_margin, merged=identity.verify_merged)


def _require_tokenizer(path: Path, fingerprint: str) -> None:
    """Readers chunk with the folder's tokenizer, recall decodes with the backbone's: they must be the same."""
    try:
        found = TextTokenizer.load(path).fingerprint
    except Exception as error:  # what tokenizers raises has no type of its own
        raise Refusal(f"{path} is torn: {error}. Copy the codec folder again.") from None
    if found != fingerprint:
        raise Refusal(f"{path} is not the codec's: its hash is {found}, not {fingerprint}. Copy the folder again.")
