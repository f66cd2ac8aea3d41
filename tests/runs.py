"""Small training runs for tests: a dozen byte-tokenised sentences, two latents, eight steps."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from jobs.train.run_folder import RunFolder
from nextmem.cli import main

SHORT = {
    "chunk_tokens": 16, "num_latents": 2, "lora_rank": 2, "stage1_steps": 4, "substage_steps": 2, "batch_size": 4,
    "micro_batch": 4, "eval_every": 2, "patience": 0, "held_out": 2, "min_tokens": 8, "warmup_steps": 2,
    "checkpoint_every": 1, "checkpoint_minutes": 60, "samples": 1, "precision": "fp32",
}  # fmt: skip


def passages(folder: Path, texts: list[str] | None = None) -> Path:
    texts = texts or [f"Ana paid {101 * i} to B{i}" for i in range(1, 13)]
    path = folder / "passages.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def sets(**settings) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def fresh(run: Path, data: Path, *more: str, **settings) -> list[str]:
    """The command line that starts a short run."""
    return ["train", str(run), "--data", str(data), "--backbone", "tiny-llama", *sets(**(SHORT | settings)), *more]


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, training loss), as metrics.jsonl has them."""
    return [(row["step"], row["loss"]) for row in RunFolder(run).rows() if row["event"] == "step"]
