"""What a decoder that has learned to copy text reads from latents, by what the gain makes of them.

    python -m benchmarks.gain --codec STAGE1/codec --corpus heldout.parquet

The latents are the states that the decoder itself has while it copies a chunk, one a token, so all of the text is in
them: what it does not read is lost between a state and an embedding. The regression is measured on the first chunks,
the share of tokens that are read on the others. STAGE1: a run of `nextmem train --stage 1`.
Shapes: B chunks, L tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.harness import Report, options, token_chunks
from benchmarks.loaded import add_options, named_precision, the_codec
from model.adapters import adapter_layers, switch_adapter
from model.codec import Codec
from model.config import VerifyConfig
from model.gain import STRETCH, TOKENS_A_CHANNEL, Regression, copying, regress
from model.latents import decoder_start, read_tokens

STRETCHES = (1.0, 1.4, 1.8, 2.0, 2.5, 3.5)

Made = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--tokens", type=int, default=16, help="of a chunk; default: %(default)s")
    parser.add_argument("--chunks", type=int, default=128, help="to read from; default: %(default)s")
    arguments = parser.parse_args()
    precision = named_precision(arguments.precision)
    report = Report("gain", arguments.json, backbone=arguments.backbone, precision=precision)
    codec = the_codec(arguments, verifying=replace(VerifyConfig.of(precision), merged=False))
    if codec.wrapped is None:
        raise SystemExit("this codec has no decoder adapter: name one that stage 1 has trained")
    switch_adapter(adapter_layers(codec.wrapped), "decoder")
    length, backbone = arguments.tokens, codec.backbone
    seen = -(-TOKENS_A_CHANNEL * backbone.width // length)
    chunks = token_chunks(arguments.corpus, codec.tokenizer, length, seen + arguments.chunks, shortest=length)
    marker_D = codec.marker_D.to(backbone.device, backbone.dtype)
    start_SD = decoder_start(backbone, codec.config.decoder_start)
    regression = regress(backbone, marker_D, start_SD, chunks[:seen])
    ids_BL = torch.from_numpy(np.stack(chunks[seen:])).to(backbone.device)
    states_BLD, embeds_BLD = copying(backbone, marker_D, start_SD, ids_BL)
    report.line("chunks, to measure on and to read from", f"{seen}, {len(ids_BL)}")
    for name, made in gains(states_BLD, embeds_BLD, regression).items():
        report.line(f"tokens read, {name}", share_read(codec, start_SD, marker_D, made(states_BLD), ids_BL))
    report.line("tokens read, the embeddings themselves", share_read(codec, start_SD, marker_D, embeds_BLD, ids_BL))
    report.close()


def gains(states_BLD: torch.Tensor, embeds_BLD: torch.Tensor, regression: Regression) -> dict[str, Made]:
    """Name: states to what is read in place of embeddings. Scales and means are those of the chunks to be read."""
    states, embeds = (part.flatten(0, 1).float() for part in (states_BLD, embeds_BLD))
    mean_D, target_D, ratio_D = states.mean(0), embeds.mean(0), embeds.std(0) / states.std(0)
    scale = float(embeds.norm(dim=-1).mean() / states.norm(dim=-1).mean())
    named: dict[str, Made] = {
        "raw": lambda x: x,
        "scaled to an embedding's length": lambda x: x * scale,
        "each channel standardised": lambda x: (x - mean_D) * ratio_D + target_D,
    }
    for stretch in STRETCHES:
        gain = replace(regression, map_DD=regression.map_DD * (stretch / STRETCH)).gain()
        named[f"regression x{stretch:g}" + (" (ours)" if stretch == STRETCH else "")] = gain
    return named


def share_read(codec: Codec, start_SD, marker_D, latents_BLD: torch.Tensor, ids_BL: torch.Tensor) -> float:
    """Share of tokens that the teacher-forced decoder gets right from these latents."""
    start, marker = (part.expand(len(ids_BL), -1, -1) for part in (start_SD, marker_D[None]))
    prefix = torch.cat([start, latents_BLD.to(start.dtype), marker], dim=1)
    return float((read_tokens(codec.backbone, prefix, ids_BL).argmax_BL == ids_BL).float().mean())


if __name__ == "__main__":
    main()
