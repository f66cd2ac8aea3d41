"""Share of the machine's matrix-product rate that encoding reaches, at the same precision and with the same threads.

    python -m benchmarks.compute_share --corpus articles.parquet --precisions fp32 --batches 8,16,32,64

The rate is measured anew beside every encoding (model/speed.py), so that another load on the machine hits both. The
plain forward over as many positions, without cache and steps, is what the body alone reaches.
"""

from __future__ import annotations

import torch

from benchmarks.harness import Ratio, Report, interleaved, options
from benchmarks.loaded import full_batch, the_codec, threads
from model.codec import Codec
from model.precision import default_precision
from model.speed import body_weights, encode_flop, matmul_rate


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--codec", help="codec folder; default: the backbone's default one")
    parser.add_argument("--precisions", default="fp32,bf16", help="default: %(default)s")
    parser.add_argument("--batches", default="8,16,32,64", help="chunks at once; default: %(default)s")
    parser.add_argument("--threads", default="all,1", help="default: %(default)s")
    arguments = parser.parse_args()
    report = Report("compute_share", arguments.json, backbone=arguments.backbone)
    sizes = [int(size) for size in arguments.batches.split(",")]
    for precision in arguments.precisions.split(","):
        codec = the_codec(arguments, precision=precision)
        ids_BL, lengths_B = full_batch(codec, arguments.corpus, max(sizes))
        for count in arguments.threads.split(","):
            with threads(None if count == "all" else int(count)):
                for size in sizes:
                    measure(report, codec, ids_BL[:size], lengths_B[:size], arguments.rounds)
    report.close()


def measure(report: Report, codec: Codec, ids_BL: torch.Tensor, lengths_B: torch.Tensor, rounds: int) -> None:
    """Two shares of one batch: of encoding and of the plain forward."""
    size, latents = len(ids_BL), codec.config.num_latents
    flop = size * encode_flop(body_weights(codec.backbone), ids_BL.shape[1], latents)
    rates: list[float] = []
    sides = {
        "rate": lambda: rates.append(matmul_rate(codec.backbone.device, codec.backbone.dtype)),
        "encode": lambda: codec.encode(ids_BL, lengths_B),
        "forward": lambda: forward(codec, ids_BL, latents),
    }
    codec.encode(ids_BL[:1], lengths_B[:1])
    seconds = interleaved(sides, rounds, warm_up=False)
    at = [flop / rate for rate in rates]  # seconds that the work would take at the limit
    name = f"{codec.backbone.precision}, {torch.get_num_threads()} threads, batch {size}"
    target = {"least": 0.5} if codec.backbone.precision == default_precision(str(codec.backbone.device)) else {}
    report.line(f"{name}: matrix products", [rate / 1e9 for rate in rates], "GFLOP/s")
    report.line(f"{name}: encoding", [size / each for each in seconds["encode"]], "chunks/s")
    report.ratio(f"{name}: share, plain forward", Ratio.of(at, seconds["forward"]))
    report.ratio(f"{name}: share, encoding", Ratio.of(at, seconds["encode"]), **target)


@torch.inference_mode()
def forward(codec: Codec, ids_BL: torch.Tensor, latents: int) -> None:
    """As many positions as encoding computes, all at once, attending as it does."""
    with codec.backbone.attending("sdpa"):
        codec.backbone.body(input_ids=torch.nn.functional.pad(ids_BL, (0, latents)), use_cache=False)


if __name__ == "__main__":
    main()
