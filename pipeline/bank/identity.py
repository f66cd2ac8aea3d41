"""Which codec made a bank's latents, as the bank's table properties hold it. Latents mean nothing to another codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

PREFIX = "nextmem."
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """Two codecs with equal identities read each other's rows. K latents, D hidden width, E embedding width."""

    backbone: str  # a hub id, a folder's content hash, or smollm2-135m
    codec_hash: str  # of the codec folder: adapters, marker, gain, calibration statistics
    tokenizer_hash: str
    num_latents: int  # K
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
