"""One optimizer step of stage 2 in the variants that were chosen between: seconds, tokens/s and memory, a line each.

    python -m benchmarks.training_step --backbone smollm2-135m --batch 8

Each variant runs in a process of its own, so that its peak memory is its own. `merged decoder` costs what a frozen
decoder's adapter added to a second copy of the weights would (that copy's memory aside), and computes with the backbone
alone: its loss means nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

VARIANTS = {
    "chosen": {},
    "adapter apart in generating": {"apart": True},
    "full logits": {"loss": "full"},
    "checkpointed layers": {"checkpointing": True},
    "adapters in fp32": {"adapters": "fp32"},  # tells only beside a bf16 backbone
    "eager attention": {"attention": "eager"},
    "compiled layers and loss": {"compile": True},
    "the same, eager attention": {"compile": True, "attention": "eager"},
    "the same, adapter apart": {"compile": True, "attention": "eager", "apart": True},
    "frozen decoder": {"trains": "encoder"},
    "merged decoder": {"trains": "encoder", "merged": True},
}


def main() -> None:
    arguments = _arguments()
    if arguments.variant:
        print(json.dumps(_measure(arguments, VARIANTS[arguments.variant])))
        return
    for precision in arguments.precisions.split(","):
        for variant in VARIANTS:
            words = [sys.executable, "-m", "benchmarks.training_step", "--variant", variant, "--precisions", precision]
            words += ["--backbone", arguments.backbone, "--batch", str(arguments.batch)]
            words += ["--repeats", str(arguments.repeats), "--tokens", str(arguments.tokens)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                print(f"{precision:5} {variant:28} failed: {done.stderr.strip().splitlines()[-1][:90]}", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{precision:5} {variant:28} {found['seconds']:7.2f} s  {found['tokens_per_second']:9,.0f} tokens/s  "
                f"{found['memory_mb']:8,.0f} MB  first step {found['first']:5.1f} s  loss {found['loss']:.4f}",
                flush=True,
            )


def _measure(arguments: argparse.Namespace, variant: dict) -> dict:
    import numpy as np

    from jobs.train.run_log import memory_mb
    from model.backbone import load_backbone
    from model.config import CodecConfig
    from model.training.curriculum import Place, TrainConfig
    from model.training.trainee import Trainee
    from model.training.trainer import Trainer

    if variant.get("loss") == "full":
        from model.training import head_loss

        head_loss.ROWS.update(cpu=1 << 30, cuda=1 << 30)
    precision = arguments.precisions
    backbone = load_backbone(arguments.backbone, precision=precision, attention=variant.get("attention", "sdpa"))
    settings = TrainConfig(
        gradient_checkpointing=variant.get("checkpointing", False),
        micro_batch=arguments.batch,
        trains=variant.get("trains", "both"),
        compile_layers=variant.get("compile", False),
        merged=not variant.get("apart", False),
    )
    trainer = Trainer(Trainee(backbone, CodecConfig()), settings)
    if variant.get("merged"):
        _pass_decoder_by(trainer.trainee)
    if variant.get("adapters") == "fp32":
        for name, parameter in trainer.trainee.wrapped.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()
    rng = np.random.default_rng(0)
    chunks = [rng.integers(3, backbone.vocab_size, size=arguments.tokens) for _ in range(arguments.batch)]
    place = Place(2, 15, 0, 0, 0, 100)
    trainer.enter(place, chunks)
    start = time.perf_counter()
    trainer.step(chunks, place)
    first = time.perf_counter() - start
    best = float("inf")
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        loss = trainer.step(chunks, place).loss
        best = min(best, time.perf_counter() - start)
    tokens = arguments.batch * arguments.tokens
    return {"seconds": best, "tokens_per_second": tokens / best, "memory_mb": memory_mb(), "loss": loss, "first": first}


def _pass_decoder_by(trainee) -> None:
    """Decoder forwards without products of its adapter."""
    adapter = trainee.adapter

    @contextmanager
    def plain(name: str) -> Iterator[None]:
        with trainee.wrapped.disable_adapter() if name == "decoder" else adapter(name):
            yield
        with adapter("encoder"):  # peft freezes what it disables, before backward
            pass

    trainee.adapter = plain


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precisions", default="fp32", help="of fp32,bf16: one or both")
    parser.add_argument("--variant", choices=VARIANTS, help="one alone, as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
