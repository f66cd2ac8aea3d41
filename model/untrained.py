"""A usable codec without training: no adapters, calibrated statistics. Its recall is exact through patches alone.

Calibration measures each latent channel's mean and deviation, which the quantiser and the embedding need, on a text
that ships with the package. Shapes: K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch

from model.backbone import Backbone
from model.batches import batches
from model.codec import Codec
from model.codec_io import make_codec
from model.config import CodecConfig, VerifyConfig
from model.finite import require_finite
from model.gain import LatentGain, length_gain, regress
from model.latents import decoder_start
from model.memory import Statistics
from model.slots import first_slots

BATCH = 16


def untrained_codec(
    backbone: Backbone, config: CodecConfig | None = None, *, verifying: VerifyConfig | None = None
) -> Codec:
    """Codec with no adapters: the marker is its word's embedding, the gain measured, the statistics calibrated."""
    config = config or CodecConfig()
    marker_D = base_marker(backbone, config.marker_word)
    chunks = calibration_chunks(backbone, config)
    blank = Statistics(torch.zeros(backbone.width), torch.ones(backbone.width), None)
    slots_KD = first_slots(backbone, config) if config.latents == "parallel" else None
    probe = Codec(backbone, config, marker_D=marker_D, gain=LatentGain(), statistics=blank, slots_KD=slots_KD)
    gain = _gain(probe, chunks)
    probe = Codec(backbone, config, marker_D=marker_D, gain=gain, statistics=blank, slots_KD=slots_KD)
    statistics = calibrate(latents_of(probe, chunks), config)
    parts = {"marker_D": marker_D, "gain": gain, "statistics": statistics, "slots_KD": slots_KD}
    return make_codec(backbone, config, verifying=verifying, **parts)


def _gain(probe: Codec, chunks: Sequence[np.ndarray]) -> LatentGain:
    backbone, kind = probe.backbone, probe.config.latent_gain
    if kind == "raw":
        return LatentGain()
    if kind == "linear":
        marker_D = probe.marker_D.to(backbone.device, backbone.dtype)
        start_SD = decoder_start(backbone, probe.config.decoder_start)
        return regress(backbone, marker_D, start_SD, chunks).gain().detached()
    return length_gain(backbone, latents_of(probe, chunks))


def calibrate(latents_NKD: torch.Tensor, config: CodecConfig) -> Statistics:
    """Channel means and deviations over all latents; a seeded orthogonal projection where D is too wide to index.

    Raises NotFiniteError: one NaN would make its channel NaN in every row of every bank.
    """
    require_finite(latents_NKD, "latents to calibrate on are", rows="chunk")
    flat_ND = latents_NKD.float().flatten(0, 1)
    deviation_D = flat_ND.std(0, correction=min(1, len(flat_ND) - 1))  # one latent alone deviates by nothing
    return Statistics(flat_ND.mean(0), deviation_D, _projection(flat_ND.shape[1], config.max_embedding_width))


def base_marker(backbone: Backbone, word: str) -> torch.Tensor:
    """Mean embedding of the word's tokens, float32 [D]: the frozen base of the start-of-decode marker."""
    ids = torch.tensor(backbone.tokenizer.encode(word), device=backbone.device)
    return backbone.embed(ids).float().mean(0).cpu().detach()


def calibration_chunks(backbone: Backbone, config: CodecConfig) -> list[np.ndarray]:
    """Token ids of the first chunk of each paragraph of the calibration text."""
    text = resources.files("model").joinpath("calibration.txt").read_text(encoding="utf-8")
    paragraphs = [p.strip() for p in text.split("\n\n") if p.strip()]
    return [next(backbone.tokenizer.chunks(p, config.chunk_tokens)).token_ids for p in paragraphs]


def latents_of(codec: Codec, chunks: Sequence[np.ndarray]) -> torch.Tensor:
    """float32 [N, K, D] on the CPU, in no particular order."""
    groups = batches([len(c) for c in chunks], BATCH)
    return torch.cat([codec.encode(*codec.pad([chunks[i] for i in group])).float().cpu() for group in groups])


def _projection(width: int, limit: int) -> torch.Tensor | None:
    if width <= limit:
        return None
    gaussian = torch.randn(width, limit, generator=torch.Generator().manual_seed(0))
    return torch.linalg.qr(gaussian).Q.to(torch.bfloat16)
