"""What a block of 64 four-bit values should be: the error of several ways to quantise latents, on held-out text.

    python -m benchmarks.nf4 --corpus heldout.parquet --chunks 96

Whatever is measured once (means, deviations) comes from the calibration text that ships with the package; errors are
measured on the corpus. The error is an L2 norm over all values, relative to that of the latents as they are, and to
that of what tells them apart (the latents less their mean over the corpus, which a decoder gets from nowhere else).
Shapes: N chunks, K latents, D hidden width, G blocks, S values a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import bitsandbytes.functional as bnb
import numpy as np
import torch

from benchmarks.harness import Report, options, token_chunks
from benchmarks.loaded import add_options, named_precision, the_codec
from model import nf4
from model.batches import batches
from model.codec import Codec
from model.untrained import calibration_chunks
from pipeline.encode.batch_size import usual_batch

FP16, FP8 = torch.float16, torch.float8_e4m3fn


def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--chunks", type=int, default=96)
    parser.add_argument("--shortest", type=int, default=64, help="tokens; shorter chunks are passed over")
    arguments = parser.parse_args()
    report = Report("nf4", arguments.json, backbone=arguments.backbone, precision=named_precision(arguments.precision))
    codec = the_codec(arguments)
    limit = codec.config.chunk_tokens
    chunks = token_chunks(arguments.corpus, codec.tokenizer, limit, arguments.chunks, shortest=arguments.shortest)
    seen_NKD = latents(codec, calibration_chunks(codec.backbone, codec.config))
    held_NKD = latents(codec, chunks)
    centred = held_NKD - held_NKD.mean((0, 1))
    report.line("chunks, calibration and held out", f"{len(seen_NKD)}, {len(held_NKD)}")
    report.line("length of a latent, and less the mean", f"{length(held_NKD):.4g}, {length(centred):.4g}")
    for name, (bits, round_trip) in schemes(seen_NKD).items():
        error = (round_trip(held_NKD) - held_NKD).norm()
        raw, deviation = float(error / held_NKD.norm()), float(error / centred.norm())
        report.line(f"{name}: to the raw norm", raw)
        report.line(f"{name}: to the deviation", deviation)
        report.line(f"{name}: bits a value", bits)
    report.close()


def schemes(seen_NKD: torch.Tensor) -> dict[str, tuple[float, Callable[[torch.Tensor], torch.Tensor]]]:
    """Name: (bits a value, latents to latents)."""
    mean_D, deviation_D = seen_NKD.mean((0, 1)), seen_NKD.flatten(0, 1).std(0)
    mean_KD, deviation_KD = seen_NKD.mean(0), seen_NKD.std(0)
    width = seen_NKD.shape[-1]
    turn_DD = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
    return {
        "64 neighbouring channels": (4.25, blocks_of_64),
        "one channel over the latents, fp8 scale": (
            4 + 8 / seen_NKD.shape[1],
            lambda x: rounded(x.transpose(1, 2), FP8).transpose(1, 2),
        ),
        "random rotation, then 64": (4.25, lambda x: blocks_of_64(x @ turn_DD) @ turn_DD.T),
        "less the mean, then 64": (4.25, lambda x: blocks_of_64(x - mean_D) + mean_D),
        "channels standardised, then 64 (ours)": (4.25, _standardised(mean_D, deviation_D)),
        "channels standardised by latent, then 64": (4.25, _standardised(mean_KD, deviation_KD)),
    }


def _standardised(mean: torch.Tensor, deviation: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: nf4.restore(blocks_of_64(nf4.standardise(x, mean, deviation)), mean, deviation)


def blocks_of_64(values_NKD: torch.Tensor) -> torch.Tensor:
    """The codec's own quantiser, there and back."""
    flat = values_NKD.flatten(1).contiguous()
    return nf4.dequantise(*nf4.quantise(flat), flat.shape[1]).view(values_NKD.shape)


def rounded(values_NGS: torch.Tensor, scale_dtype: torch.dtype) -> torch.Tensor:
    """Blocks of any length to the nearest of the sixteen codes and back: bitsandbytes has none of 15 values."""
    code = bnb.get_4bit_type("nf4", device=values_NGS.device).sort().values
    scale_NG1 = values_NGS.abs().amax(-1, keepdim=True).clamp_min(1e-8).to(scale_dtype).float().clamp_min(1e-8)
    nearest = torch.bucketize((values_NGS / scale_NG1).contiguous(), (code[1:] + code[:-1]) / 2)
    return code[nearest] * scale_NG1


def latents(codec: Codec, chunks: Sequence[np.ndarray]) -> torch.Tensor:
    """float32 [N, K, D], on the CPU."""
    groups = batches([len(chunk) for chunk in chunks], usual_batch(codec.backbone))
    found = [codec.encode(*codec.pad([chunks[i] for i in group])).float().cpu() for group in groups]
    return torch.cat(found).clone()


def length(values_NKD: torch.Tensor) -> float:
    return float(values_NKD.norm(dim=-1).mean())


if __name__ == "__main__":
    main()
