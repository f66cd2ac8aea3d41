"""Exact recall where it is hard: with latents that carry nearly everything, as a trained codec's do.

    python -m benchmarks.overfitted --corpus articles.parquet --chunks 16 --minutes 60 --out overfitted-codec

A stand-in for a trained codec, not the training job: the decoder adapter learns a handful of chunks by heart. Their
latents come from the untouched encoder, quantised as recall reads them, and stay fixed; the loss is the cross entropy
of the text after `latents, marker`. It ends when the patch would force no more than a tenth of the positions, or when
the minutes are over; the same command goes on from where it stopped. Then recall is counted as in benchmarks.recall.
Shapes: B chunks, L text tokens, K latents, D hidden width, V vocabulary.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.exactness import all_drafted, memorised, report_exactness, report_patches
from benchmarks.harness import Report, options, token_chunks
from benchmarks.loaded import add_options, named_precision, the_codec
from model.adapters import add_adapters
from model.batches import batches
from model.codec import Codec
from model.codec_io import load_codec, make_codec, save_codec
from model.latents import read_tokens

BATCH = 8  # chunks an optimizer step
LOOK_EVERY = 5  # passes over the chunks between two looks at the patch


def main() -> None:
    arguments = _arguments()
    precision = named_precision(arguments.precision)
    report = Report("overfitted", arguments.json, backbone=arguments.backbone, precision=precision)
    verifying = all_drafted(precision)
    base = the_codec(arguments, verifying=replace(verifying, merged=False))
    chunks = chosen(arguments, base)
    if not arguments.out.exists():
        train(report, base, chunks, arguments)
    codec = load_codec(arguments.out, backbone_name=arguments.backbone, verifying=verifying)
    rows = memorised(codec, chunks)
    report.line("chunks", len(rows))
    report.line("tokens a chunk", sum(map(len, chunks)) / len(chunks))
    report.line("fidelity", sum(row.memory.fidelity for row in rows) / len(rows))
    report_exactness(report, codec, rows, len(rows), arguments.alone)
    report_patches(report, codec, rows)
    report.close()


def _arguments() -> argparse.Namespace:
    parser = options(__doc__)
    add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="codec folder; if it exists it is only measured")
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--shortest", type=int, default=64, help="tokens; chunks are cut to lengths from here ...")
    parser.add_argument("--longest", type=int, default=128, help="... to here")
    parser.add_argument("--minutes", type=float, default=60, help="of training in this run; default: %(default)s")
    parser.add_argument("--forced", type=float, default=0.1, help="share of positions at which training ends")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's learning rate; default: %(default)s")
    parser.add_argument("--alone", type=int, default=4, help="chunks recalled one by one too; default: %(default)s")
    return parser.parse_args()


def chosen(arguments: argparse.Namespace, codec: Codec) -> list[np.ndarray]:
    """Real chunks, cut to lengths spread evenly from the shortest to the longest."""
    found = token_chunks(
        arguments.corpus, codec.tokenizer, arguments.longest, arguments.chunks, shortest=arguments.longest
    )
    lengths = np.linspace(arguments.shortest, arguments.longest, len(found)).round().astype(int)
    return [ids[:length] for ids, length in zip(found, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch, ready to be learnt."""

    prefix_BSD: torch.Tensor  # latents as recall reads them, then the marker
    ids_BL: torch.Tensor
    is_text_BL: torch.Tensor  # False at padding


def train(report: Report, base: Codec, chunks: Sequence[np.ndarray], arguments: argparse.Namespace) -> None:
    """Write the codec folder, or SystemExit when the minutes are over: what was learnt is kept beside it."""
    torch.manual_seed(0)
    wrapped = base.wrapped or add_adapters(base.backbone, base.config)  # fresh ones change nothing yet
    lessons = [lesson(base, [chunks[i] for i in group]) for group in batches([len(c) for c in chunks], BATCH)]
    wrapped.base_model.set_adapter("decoder")
    learner = Learner(wrapped, arguments.rate, arguments.out.with_name(arguments.out.name + ".training"))
    end = time.monotonic() + 60 * arguments.minutes
    while (share := forced_share(base, lessons)) > arguments.forced:
        print(f"  pass {learner.passes}: {share:.1%} of the positions would be forced", flush=True)
        for _ in range(LOOK_EVERY):
            learner.one_pass(base, lessons)
        learner.save()
        if time.monotonic() > end:
            raise SystemExit(f"the {arguments.minutes:g} minutes are over; the same command goes on from here")
    report.line("passes over the chunks", learner.passes)
    report.line("share of positions forced at the end of training", share)
    parts = {"marker_D": base.marker_D, "gain": base.gain, "statistics": base.statistics}
    save_codec(make_codec(base.backbone, base.config, **parts, wrapped=wrapped), arguments.out)


def lesson(codec: Codec, chunks: Sequence[np.ndarray]) -> Lesson:
    ids_BL, lengths_B = codec.pad(chunks)
    with torch.no_grad():
        latents_BKD = codec.encode(ids_BL, lengths_B).clone()  # a plain tensor: encoding makes inference tensors
        prefix_BSD = codec.prefix(codec.dequantise(*codec.quantise(latents_BKD)))
    is_text_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device) < lengths_B[:, None]
    return Lesson(prefix_BSD, ids_BL, is_text_BL)


@torch.no_grad()
def forced_share(codec: Codec, lessons: Sequence[Lesson]) -> float:
    """Share of the positions that a patch would force now."""
    forced = positions = 0
    for each in lessons:
        lead_BL = read_tokens(codec.backbone, each.prefix_BSD, each.ids_BL).lead_BL
        forced += int(((lead_BL <= codec.verifying.margin) & each.is_text_BL).sum())
        positions += int(each.is_text_BL.sum())
    return forced / positions


class Learner:
    """Adam on the adapter that is switched on, with its state in one file."""

    def __init__(self, wrapped: torch.nn.Module, rate: float, state: Path):
        self.weights = [weight for weight in wrapped.parameters() if weight.requires_grad]
        self.adam = torch.optim.Adam(self.weights, lr=rate)
        self.state, self.passes = state, 0
        if state.is_file():
            self._load()

    def one_pass(self, codec: Codec, lessons: Sequence[Lesson]) -> None:
        for each in lessons:
            self.adam.zero_grad(set_to_none=True)
            loss_of(codec, each).backward()
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.adam.step()
        self.passes += 1

    def save(self) -> None:
        """Whole or not at all."""
        tensors = {"passes": torch.tensor(self.passes)}
        for i, weight in enumerate(self.weights):
            state = self.adam.state[weight]
            tensors |= {
                f"weight.{i}": weight.detach(),
                f"mean.{i}": state["exp_avg"],
                f"square.{i}": state["exp_avg_sq"],
            }
            tensors["step"] = state["step"]
        temporary = self.state.with_name(self.state.name + ".tmp")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        temporary.replace(self.state)

    @torch.no_grad()
    def _load(self) -> None:
        tensors = load_file(self.state)
        self.passes = int(tensors["passes"])
        for i, weight in enumerate(self.weights):
            weight.copy_(tensors[f"weight.{i}"])
            moments = {"exp_avg": tensors[f"mean.{i}"], "exp_avg_sq": tensors[f"square.{i}"]}
            self.adam.state[weight] = {"step": tensors["step"].clone()} | {
                name: moment.to(weight.device) for name, moment in moments.items()
            }


def loss_of(codec: Codec, lesson: Lesson) -> torch.Tensor:
    """Cross entropy of the text, teacher forced, after `latents, marker`."""
    backbone, first = codec.backbone, lesson.prefix_BSD.shape[1] - 1
    embeds_BSD = torch.cat([lesson.prefix_BSD, backbone.embed(lesson.ids_BL[:, :-1])], dim=1)
    hidden_BLD = backbone.body(inputs_embeds=embeds_BSD, use_cache=False).last_hidden_state[:, first:]
    logits_NV = backbone.head(hidden_BLD[lesson.is_text_BL]).float()
    return torch.nn.functional.cross_entropy(logits_NV, lesson.ids_BL[lesson.is_text_BL])


if __name__ == "__main__":
    main()
