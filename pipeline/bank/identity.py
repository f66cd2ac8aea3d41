"""Which codec made a bank's latents, as the bank's table properties hold it. Latents mean nothing to another codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from model.codec_folder import TOKENIZER, read_settings
from model.config import CodecConfig, VerifyConfig
from model.rate import Rate
from model.refusal import Refusal
from model.tokens import TextTokenizer

PREFIX = "nextmem."
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """Two codecs with equal identities read each other's rows. D hidden width, E embedding width."""

    backbone: str  # a hub id, a folder's content hash, or smollm2-135m
    codec_hash: str  # of the codec folder: adapters, marker, gain, calibration statistics
    tokenizer_hash: str
    num_latents: int  # that a row stores of a chunk
    hidden_width: int  # D
    quantiser: str  # what `codes` and `scales` are
    pooling: str  # how K latents become one embedding
    embedding_width: int  # E
    verify_precision: str  # what the patch was measured with; "none" where nothing was verified
    verify_margin: float  # positions right by less than this are in the patch too
    verify_merged: bool  # with the adapters added to the backbone's weights
    format_version: int = FORMAT_VERSION

    def properties(self) -> dict[str, str]:
        """Table properties `nextmem.*`, all text."""
        return {PREFIX + name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> CodecIdentity:
        """The way back, for banks too that were made before adapters were merged. KeyError: a property is missing."""
        types = {"int": int, "float": float, "str": str, "bool": "True".__eq__}
        found = {PREFIX + "verify_merged": "False"} | dict(properties)
        return cls(**{field.name: types[field.type](found[PREFIX + field.name]) for field in fields(cls)})

    def differing(self, other: CodecIdentity) -> list[str]:
        """The names of the fields in which the two differ, in order."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)]


def codec_identity(codec_folder: str | Path, verifying: VerifyConfig) -> CodecIdentity:
    """What a bank's properties say of the codec in a folder. Raises ValueError for a torn one, FileNotFoundError."""
    settings = read_settings(codec_folder)
    _require_tokenizer(Path(codec_folder, TOKENIZER), settings["tokenizer_fingerprint"])
    config = CodecConfig.from_dict(settings["config"])
    return CodecIdentity(
        backbone=settings["backbone"],
        codec_hash=settings["identity"],
        tokenizer_hash=settings["tokenizer_fingerprint"],
        num_latents=verifying.rate.stored(config.num_latents),
        hidden_width=settings["hidden_width"],
        quantiser=verifying.rate.quantiser(config.quantiser),
        pooling=config.pooling,
        embedding_width=settings["embedding_width"],
        verify_precision=verifying.precision,
        verify_margin=verifying.margin,
        verify_merged=verifying.merged,
    )


def verify_config(identity: CodecIdentity) -> VerifyConfig:
    """How a bank's rows are stored and were verified, which is how they must be recalled."""
    rate = Rate.of(identity.num_latents, identity.quantiser)
    return VerifyConfig(identity.verify_precision, identity.verify_margin, merged=identity.verify_merged, rate=rate)


def _require_tokenizer(path: Path, fingerprint: str) -> None:
    """Readers chunk with the folder's tokenizer, recall decodes with the backbone's: they must be the same."""
    try:
        found = TextTokenizer.load(path).fingerprint
    except Exception as error:  # what tokenizers raises has no type of its own
        raise Refusal(f"{path} is torn: {error}. Copy the codec folder again.") from None
    if found != fingerprint:
        raise Refusal(f"{path} is not the codec's: its hash is {found}, not {fingerprint}. Copy the folder again.")
