"""Adapters merged with the backbone against adapters apart: what each forward costs, and the memory of the second copy.

    python -m benchmarks.merged --corpus articles.parquet

Encoding, verifying (one forward that is read teacher-forced) and drafting (token by token, at the batch of recall), the
same chunks on both sides. Merging must not change what is computed: the largest difference of a latent is printed, and
of how far ahead the true token is.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.encode_loop import relative_error
from benchmarks.harness import Ratio, Report, interleaved, options
from benchmarks.loaded import add_options, full_batch, named_precision, the_codec
from model.codec import Codec
from model.config import VerifyConfig
from model.latents import read_tokens
from pipeline.encode.batch_size import usual_batch


def main() -> None:
    parser = options(__doc__, rounds=3)
    add_options(parser)
    parser.add_argument("--batch", type=int, help="chunks at once; default: what encoding chooses")
    parser.add_argument("--drafted", type=int, default=32, help="of them drafted too; default: %(default)s")
    arguments = parser.parse_args()
    verifying = VerifyConfig.of(named_precision(arguments.precision))
    codecs = {
        name: the_codec(arguments, verifying=replace(verifying, merged=name == "merged"))
        for name in ("merged", "apart")
    }
    if codecs["apart"].wrapped is None:
        raise SystemExit("this codec has no adapters to merge")
    size = arguments.batch or usual_batch(codecs["apart"].backbone)
    report = Report("merged", arguments.json, backbone=arguments.backbone, precision=verifying.precision, batch=size)
    ids_BL, lengths_B = full_batch(codecs["apart"], arguments.corpus, size)
    latents = {name: codec.encode(ids_BL, lengths_B) for name, codec in codecs.items()}
    report.line("largest relative difference of a latent", relative_error(*latents.values()))
    leads = [leads_of(codec, latents["apart"], ids_BL) for codec in codecs.values()]
    report.line("largest difference of a lead, logits", float((leads[0] - leads[1]).abs().max()))
    held = {name: sum(t.nbytes for t in weights(codec)) for name, codec in codecs.items()}
    report.line("weights held, apart", held["apart"] / 1e6, "MB")
    report.line("weights held, merged", held["merged"] / 1e6, "MB")
    few = min(arguments.drafted, size)
    for work, run in {
        f"encoding {size}": lambda codec: codec.encode(ids_BL, lengths_B),
        f"verifying {size}": lambda codec: leads_of(codec, latents["apart"], ids_BL),
        f"drafting {few}": lambda codec: codec.draft(latents["apart"][:few], lengths_B[:few].tolist()),
    }.items():
        sides = {name: lambda codec=codec, run=run: run(codec) for name, codec in codecs.items()}
        seconds = interleaved(sides, arguments.rounds)
        for name, taken in seconds.items():
            report.line(f"{work}, {name}", taken, "s")
        report.ratio(f"{work}: speed of merged over apart", Ratio.of(seconds["apart"], seconds["merged"]))
    report.close()


@torch.inference_mode()
def leads_of(codec: Codec, latents_BKD: torch.Tensor, ids_BL: torch.Tensor) -> torch.Tensor:
    """[B, L] of the verifying forward."""
    codec.draft(latents_BKD[:1], [1])  # the decoder is on from here
    return read_tokens(codec.backbone, codec.prefix(latents_BKD), ids_BL).lead_BL


def weights(codec: Codec) -> set[torch.Tensor]:
    """Every tensor of the backbone, its adapters and what is merged of them, each once."""
    held = set(codec.backbone.model.parameters())
    return held if codec.merged is None else held | set(codec.merged.weights())


if __name__ == "__main__":
    main()
