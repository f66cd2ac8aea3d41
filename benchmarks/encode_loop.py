"""Cached encoding against the loop of the published algorithm, which feeds the whole prefix again for every latent.

    python -m benchmarks.encode_loop --corpus articles.parquet

Same weights, same batch, one process; the latents must be equal. Both run the backbone's body only: the loop is spared
the logits that a plain `model(...)` call would add. Shapes: B chunks, L text tokens, K latents, D hidden width.
"""

from __future__ import annotations

import torch

from benchmarks.harness import Ratio, Report, interleaved, options
from benchmarks.loaded import add_options, full_batch, named_precision, the_codec
from model.codec import Codec
from pipeline.encode.batch_size import usual_batch

TOLERANCE = 1e-4  # relative, in fp32


def main() -> None:
    parser = options(__doc__, rounds=3)
    add_options(parser)
    parser.add_argument("--batch", type=int, help="chunks at once; default: what encoding chooses")
    arguments = parser.parse_args()
    precision = named_precision(arguments.precision)
    codec = the_codec(arguments)
    size = arguments.batch or usual_batch(codec.backbone)
    report = Report("encode_loop", arguments.json, backbone=arguments.backbone, precision=precision, batch=size)
    ids_BL, lengths_B = full_batch(codec, arguments.corpus, size)
    kept = {}

    def cached() -> None:
        kept["cached"] = codec.encode(ids_BL, lengths_B)

    def again() -> None:
        kept["again"] = encode_again(codec, ids_BL)

    codec.encode(ids_BL[:1], lengths_B[:1])  # both sides run the same code on the same weights: one warm-up is enough
    seconds = interleaved({"cached": cached, "again": again}, arguments.rounds, warm_up=False)
    for name, title in (("again", "prefix fed again"), ("cached", "KV cache")):
        report.line(f"{title}, seconds a batch", seconds[name], "s")
        report.line(f"{title}, chunks/s", [size / each for each in seconds[name]])
    report.ratio("speed of the cache over feeding again", Ratio.of(seconds["again"], seconds["cached"]), least=10)
    error = relative_error(kept["cached"], kept["again"])
    report.line("largest relative difference of a latent", error, f"(fp32: at most {TOLERANCE:g})")
    report.close()


@torch.inference_mode()
def encode_again(codec: Codec, ids_BL: torch.Tensor) -> torch.Tensor:
    """Latents [B, K, D] of full chunks: for each of them the text, the marker and all latents so far, once more.

    With the adapter that `codec.encode` has switched on.
    """
    backbone, latents = codec.backbone, []
    marker_D, gain = (part.to(backbone.device, backbone.dtype) for part in (codec.marker_D, codec.gain))
    embeds_BSD = torch.cat([backbone.embed(ids_BL), marker_D.expand(len(ids_BL), 1, -1)], dim=1)
    with backbone.attending("sdpa"):  # as encoding does
        for _ in range(codec.config.num_latents):
            latents.append(backbone.body(inputs_embeds=embeds_BSD, use_cache=False).last_hidden_state[:, -1])
            embeds_BSD = torch.cat([embeds_BSD, gain(latents[-1])[:, None]], dim=1)
    return torch.stack(latents, dim=1)


def relative_error(found_BKD: torch.Tensor, wanted_BKD: torch.Tensor) -> float:
    """Largest L2 difference of a latent, over its own length."""
    found, wanted = found_BKD.float(), wanted_BKD.float()
    return float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max())


if __name__ == "__main__":
    main()
