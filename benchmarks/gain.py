"""What a decoder that has learned to copy text reads from latents, by what the gain makes of them.

    python -m benchmarks.gain --codec STAGE1/codec --corpus heldout.parquet

The latents are the states that the decoder itself has while it copies a chunk, one a token, so all of the text is in
them: what it does not read is lost between a state and an embedding. The regression is measured on the first chunks,
the share of tokens that are read on the others. STAGE1: a run of `nextmem train --stage 1`.
Shapes: B chunks, L tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.harness import Report, options, token_chunks
from benchmarks.loaded import add_options, named_precision, the_codec
from model.adapters import adapter_layers, switch_adapter
from model.codec import Codec
from model.gain import STRETCH, TOKENS_A_CHANNEL, Regression, copying, regress
from model.latents import decoder_start, read_tokens

STRETCHES = (1.0, 1.4, 1.8, 2.0, 2.5, 3.5)
BATCH = 32

Made = Callable[[torch.Tensor], torch.Tensor]


@torch.inference_mode()
def main() -> None:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--tokens", type=int, default=16, help="of a chunk")
    parser.add_argument("--chunks", type=int, default=128, help="to read from")
    arguments = parser.parse_args()
    report = Report("gain", arguments.json, backbone=arguments.backbone, precision=named_precision(arguments.precision))
    codec = the_codec(arguments)
    if codec.wrapped is None:
        raise SystemExit("this codec has no decoder adapter: name one that stage 1 has trained")
    switch_adapter(adapter_layers(codec.wrapped), "decoder")
    length, width = arguments.tokens, codec.backbone.width
    seen = -(-TOKENS_A_CHANNEL * width // length)
    chunks = token_chunks(arguments.corpus, codec.tokenizer, length, seen + arguments.chunks, shortest=length)
    marker_D = codec.marker_D.to(codec.backbone.device, codec.backbone.dtype)
    start_SD = decoder_start(codec.backbone, codec.config.decoder_start)
    regression = regress(codec.backbone, marker_D, start_SD, chunks[:seen])
    ids_BL = torch.from_numpy(np.stack(chunks[seen:])).to(codec.backbone.device)
    report.line("chunks, to measure on and to read from", f"{seen}, {len(ids_BL)}")
    for name, made in gains(codec, regression, chunks[:seen]).items():
        report.line(f"tokens read, {name}", share_read(codec, ids_BL, start_SD, marker_D, made))
    report.line("tokens read, the embeddings themselves", share_read(codec, ids_BL, start_SD, marker_D, None))
    report.close()


def gains(codec: Codec, regression: Regression, chunks: list[np.ndarray]) -> dict[str, Made]:
    """Name: states to what is read in place of embeddings."""
    ids_BL = torch.from_numpy(np.stack(chunks[:BATCH])).to(codec.backbone.device)
    start_SD = decoder_start(codec.backbone, codec.config.decoder_start)
    marker_D = codec.marker_D.to(codec.backbone.device, codec.backbone.dtype)
    states, embeds = (part.flatten(0, 1).float() for part in copying(codec.backbone, marker_D, start_SD, ids_BL))
    mean_D, target_D = states.mean(0), embeds.mean(0)
    scale = float(embeds.norm(dim=-1).mean() / states.norm(dim=-1).mean())
    ratio_D = embeds.std(0) / states.std(0)
    plain_DD = regression.map_DD / STRETCH
    named: dict[str, Made] = {
        "raw": lambda x: x,
        "scaled to an embedding's length": lambda x: x * scale,
        "each channel standardised": lambda x: (x - mean_D) * ratio_D + target_D,
    }
    for stretch in STRETCHES:
        gain = Regression(regression.centre_D, plain_DD * stretch, regression.target_D).gain()
        named[f"regression x{stretch:g}" + (" (ours)" if stretch == STRETCH else "")] = gain
    return named


def share_read(codec: Codec, ids_BL, start_SD, marker_D, made: Made | None) -> float:
    """Share of tokens that the teacher-forced decoder gets right from their states; None: from their embeddings."""
    right = 0
    for some_BL in ids_BL.split(BATCH):
        states, embeds = copying(codec.backbone, marker_D, start_SD, some_BL)
        latents = embeds if made is None else made(states.float()).to(embeds.dtype)
        start, marker = (part.expand(len(some_BL), -1, -1) for part in (start_SD, marker_D[None]))
        reading = read_tokens(codec.backbone, torch.cat([start, latents, marker], dim=1), some_BL)
        right += int((reading.argmax_BL == some_BL).sum())
    return right / ids_BL.numel()


if __name__ == "__main__":
    main()
