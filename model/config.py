"""What defines a codec: the paper's numbers as defaults, nonsense refused when made.

Source of the defaults: NextMem (arXiv 2603.15634), section on the method; gain, quantiser, margin and embedding are
ours (docs/decisions.md).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from model.patch import RAW_SHARE
from model.rate import LEADING, STANDARDISED, WHOLE, Rate, is_quantiser
from model.refusal import Refusal

PRECISIONS = ("fp32", "bf16")
GAINS = ("raw", "fixed", "learned", "linear")
STARTS = ("end-of-text", "none")
LATENTS = ("autoregressive", "parallel")
POOLINGS = MEAN, HEAD = ("mean-standardised", "head")  # how latents become an embedding; model/head.py
LATENTS_WEIGHTS = {MEAN: 0.1, HEAD: 0.2}  # in a search by both; chosen by measurement (docs/search.md)
RANKING = ("latents_weight",)  # fields that say how to search, not what a latent means
ADAPTERS = ("decoder", "encoder")


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """Everything that decides what a latent means. Changed only by `dataclasses.replace`."""

    chunk_tokens: int = 128  # tokens a chunk holds at most
    num_latents: int = 15  # K
    latents: str = "autoregressive"  # each is fed back for the next; parallel: all in one forward (model/slots.py)
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_targets: str = "all-linear"
    latent_gain: str = "linear"  # raw: as it is; fixed, learned: to an embedding's length; linear: model/gain.py
    decoder_start: str = "end-of-text"  # what the decoder reads before the latents: a first position draws attention
    marker_word: str = "repeat"  # its frozen embedding is the base of the start-of-decode marker
    quantiser: str = STANDARDISED  # or nf4-leading-R: R directions of each latent (model/leading.py)
    pooling: str = POOLINGS[0]
    latents_weight: float | None = None  # their share in a search by latents and words; None: as its pooling has it
    max_embedding_width: int = 1024  # wider backbones are projected, so that every vector store can index a row
    load_in_4bit: bool = False  # backbone weights through bitsandbytes

    def __post_init__(self):
        _require(16 <= self.chunk_tokens <= 4096, self, "chunk_tokens", "16 to 4096")
        _require(1 <= self.num_latents <= self.chunk_tokens, self, "num_latents", "1 to chunk_tokens")
        _require(self.lora_rank >= 1, self, "lora_rank", "at least 1")
        _require(self.lora_alpha >= 1, self, "lora_alpha", "at least 1")
        _require(bool(self.lora_targets), self, "lora_targets", "all-linear, or names of layers with commas between")
        _require(bool(self.marker_word), self, "marker_word", "a word")
        _require_one_of(LATENTS, self, "latents")
        _require_one_of(GAINS, self, "latent_gain")
        _require_one_of(STARTS, self, "decoder_start")
        _require(is_quantiser(self.quantiser), self, "quantiser", f"{STANDARDISED}, or {LEADING} and a multiple of 64")
        _require_one_of(POOLINGS, self, "pooling")
        _require(self.latents_weight is None or 0 <= self.latents_weight <= 1, self, "latents_weight", "0 to 1")
        _require(self.max_embedding_width >= 1, self, "max_embedding_width", "at least 1")

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    def meaning(self) -> dict:
        """What a codec's hash covers. A field younger than the first codecs is left out at its default: theirs stay."""
        known = {name: value for name, value in self.as_dict().items() if name not in RANKING}
        return {name: value for name, value in known.items() if (name, value) != ("latents", LATENTS[0])}

    def searching_weight(self) -> float:
        """The latents' share in a search by both, 0 to 1."""
        return LATENTS_WEIGHTS[self.pooling] if self.latents_weight is None else self.latents_weight

    @classmethod
    def from_dict(cls, values: dict) -> CodecConfig:
        """The inverse of `as_dict`, for codecs too that were made before a decoder had a start."""
        return cls(**({"decoder_start": "none"} | values))


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """How a chunk is stored and verified. A bank records it, because verifying and recalling must read alike."""

    precision: str  # of the verifying and of the recalling forward
    margin: float  # logits; a position that is right by less is forced too
    raw_share: float = RAW_SHARE  # past this share of forced positions raw ids are stored; 1: never. Rows say which
    merged: bool = True  # adapters added to the weights (model/adapters.py), but in 4 bits
    rate: Rate = WHOLE  # of the latents that are verified and recalled

    def __post_init__(self):
        _require_one_of(PRECISIONS, self, "precision")
        _require(self.margin >= 0, self, "margin", "0 or more")
        _require(0 <= self.raw_share <= 1, self, "raw_share", "0 to 1")

    @classmethod
    def of(cls, precision: str, rate: Rate = WHOLE) -> VerifyConfig:
        """The default margin of a precision (docs/decisions.md: measured, both without a failure)."""
        return cls(precision, {"fp32": 0.05, "bf16": 0.5}[precision], rate=rate)


@dataclass(frozen=True, slots=True)
class RefineConfig:
    """How far latents are refined when a chunk is memorised (model/refine.py). What they are stays the codec's."""

    steps: int  # at most, each chunk; one that is right by the margin stops before
    batch_size: int | None = None  # chunks at once; None: by device. Gradients take far more memory than encoding

    def __post_init__(self):
        _require(self.steps >= 1, self, "steps", "at least 1")
        _require(self.batch_size is None or self.batch_size >= 1, self, "batch_size", "at least 1")


def _require(holds: bool, config: object, field: str, wanted: str) -> None:
    if not holds:
        raise Refusal(f"{type(config).__name__}.{field} is {getattr(config, field)!r}; it must be {wanted}")


def _require_one_of(values: tuple[str, ...], config: object, field: str) -> None:
    wanted = values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    _require(getattr(config, field) in values, config, field, wanted)
