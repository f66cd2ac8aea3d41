"""NextMem and the baselines it is compared with, trained one after another at one small budget: a queue that resumes.

    python -m benchmarks.baselines RUNS --data PASSAGES
    python -m benchmarks.baselines RUNS --data PASSAGES --ablation
    nextmem evaluate untrained default RUNS/*/codec lora text bm25 minilm --data SETS --tasks all -o OUT

Same backbone, passages, order, batch and number of optimizer steps for all. It runs at low priority, in one process at
a time, each run a folder of its own: kill it, and the same command goes on. A line a system at the end says what each
took and its held-out loss, in nats a label; the backbone alone is measured on the same labels.

`--ablation` trains NextMem with one thing changed at a time instead: what a stage, the curriculum, the decoder's start
and the marker's word are worth. Both share the run `nextmem`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.evaluate.budget import budget
from jobs.train.run_folder import RunFolder
from model.baselines.settings import SYSTEMS

STEPS, BATCH = 375, 8  # of chunks of about 100 tokens: 0.3 million tokens
ORDER = ("nextmem", "icae-ours", "dyprag-ours", "icae", "dyprag")  # what tells most comes first

NEXTMEM = "nextmem"
ABLATIONS: dict[str, dict[str, object]] = {  # of NextMem, each with one thing changed
    NEXTMEM: {},
    "all-at-once": {"curriculum": "all_at_once"},
    "stage-1-alone": {"stages": "1"},  # no encoder is ever trained
    "stage-2-alone": {"stages": "2"},
    "no-start": {"decoder_start": "none"},
    "other-marker": {"marker_word": "the"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="a folder for the runs, one a system")
    parser.add_argument("--data", action="append", default=[], metavar="PASSAGES", help="needed for runs that are new")
    parser.add_argument("--systems", nargs="+", choices=[*ORDER, *ABLATIONS], metavar="NAME", help="default: all")
    parser.add_argument("--ablation", action="store_true", help="variants of nextmem instead of baselines")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimizer, each system; default: %(default)s")
    parser.add_argument("--batch", type=int, default=BATCH, help="chunks a step; default: %(default)s")
    parser.add_argument("--minutes", type=float, help="stop whole after so long")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all of them alike")
    parser.add_argument("--nice", type=int, default=19, help="how low the priority is; default: %(default)s")
    parser.add_argument("--backbone", default="smollm2-135m")
    arguments = parser.parse_args()
    deadline = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    os.nice(arguments.nice)
    names = arguments.systems or list(ABLATIONS if arguments.ablation else ORDER)
    failed = [name for name in names if not _train(name, arguments, deadline)]
    _print(arguments.runs, names)
    sys.exit(1 if failed else 0)


def settings_of(name: str) -> dict[str, object]:
    """What makes a system, or a variant of NextMem."""
    return SYSTEMS[name] if name in SYSTEMS else ABLATIONS[name]


def schedule(name: str, steps: int, latents: int = 15) -> dict[str, object]:
    """Settings that make any of them take exactly so many steps. ValueError where there are too few for a curriculum.

    Two stages get a fifth of them for reconstruction, and as much again for all sub-stages but the last: the last one
    trains what is used in the end.
    """
    own = settings_of(name)
    if own.get("stages") == "1":
        return {"stage1_steps": steps}
    first = 0 if own.get("stages") == "2" else steps // 5
    each = 1 if own.get("curriculum") == "all_at_once" else max(1, steps // 5 // max(1, latents - 1))
    last = steps - first - each * (latents - 1)
    if last < 1 or (first < 1 and own.get("stages") != "2"):
        raise ValueError(f"{steps} steps are too few for a curriculum of {latents} sub-stages")
    return {"substage_steps": each, "final_steps": last} | ({"stage1_steps": first} if first else {})


def command(name: str, arguments: argparse.Namespace, minutes: float | None) -> list[str]:
    """`nextmem train` for a run that is new, or for one that goes on."""
    run = RunFolder(arguments.runs / name)
    words = [sys.executable, "-m", "nextmem.cli", "train", str(run.path), "--no-ray"]
    words += [] if minutes is None else ["--minutes", f"{minutes:.2f}"]
    if run.config.exists():
        return words
    latents = next((int(pair.partition("=")[2]) for pair in arguments.set if pair.startswith("num_latents=")), 15)
    same = {"batch_size": arguments.batch, "micro_batch": arguments.batch, "patience": 0, "held_out": 64, "seed": 0,
            "eval_every": 25, "warmup_steps": 10, "min_tokens": 32, "checkpoint_every": 25}  # fmt: skip
    if name == "icae-ours" or name in ABLATIONS:
        same["learning_rate"] = 1e-3  # as the codec that ships
    same |= ABLATIONS.get(name, {}) | schedule(name, arguments.steps, latents)
    pairs = [f"{key}={value}" for key, value in same.items()]
    words += ["--system", name if name in SYSTEMS else NEXTMEM, "--backbone", arguments.backbone]
    words += [word for path in arguments.data for word in ("--data", path)]
    return words + [word for pair in (*pairs, *arguments.set) for word in ("--set", pair)]


def _train(name: str, arguments: argparse.Namespace, deadline: float | None) -> bool:
    """Whether all is well: trained to its end, or stopped whole because the time is over."""
    left = None if deadline is None else (deadline - time.monotonic()) / 60
    if RunFolder(arguments.runs / name).codec.exists() or (left is not None and left <= 0):
        return True
    print(f"{name}: training in {arguments.runs / name}", file=sys.stderr, flush=True)
    return subprocess.run(command(name, arguments, left), check=False).returncode == 0


def _print(runs: Path, systems: Sequence[str]) -> None:
    print("| system | state | steps | tokens | FLOP | held-out loss | the backbone alone |")
    print("|---|---|---|---|---|---|---|")
    for name in systems:
        run = RunFolder(runs / name)
        if not run.config.exists():
            print(f"| {name} | not begun | | | | | |")
            continue
        took = budget(run.codec)
        plain = next((f"{row['loss']:.3f}" for row in run.rows() if row["event"] == "plain"), "")
        state = "trained" if run.codec.exists() else "under way"
        loss = f"{took['held_out_loss']:.3f}" if "held_out_loss" in took else ""
        tokens, flop = f"{took['trained_tokens']:,}", f"{took.get('trained_flop', 0.0):.2e}"
        print(f"| {name} | {state} | {took['trained_steps']} | {tokens} | {flop} | {loss} | {plain} |")


if __name__ == "__main__":
    main()
