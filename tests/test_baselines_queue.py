"""The queue that trains baselines: equal steps for all, one after another, and what is done is not done again."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from runs import SHORT, passages, sets

from benchmarks.baselines import ABLATIONS, NEXTMEM, ORDER, command, schedule, settings_of
from jobs.settings import replaced
from model.baselines.settings import SYSTEMS
from model.config import CodecConfig
from model.training.curriculum import Curriculum, TrainConfig


def test_the_queue_knows_every_system():
    assert sorted(ORDER) == sorted(SYSTEMS)


@pytest.mark.parametrize("steps", [60, 375])
@pytest.mark.parametrize("name", dict.fromkeys([*ORDER, *ABLATIONS]))
def test_every_system_takes_the_same_number_of_steps(name, steps):
    settings = settings_of(name) | schedule(name, steps) | {"patience": 0}
    train, codec = replaced(settings, TrainConfig(), CodecConfig())
    curriculum = Curriculum(train, codec.num_latents)
    assert curriculum.steps_left(curriculum.start()) == steps


def test_too_few_steps_for_a_curriculum_are_refused():
    with pytest.raises(ValueError, match="12 steps are too few"):
        schedule("nextmem", 12)


def test_a_variant_is_nextmem_with_one_setting_changed(tmp_path):
    """Beside the shares of its steps that a stage gets, which a stage left out leaves to the other."""
    asked = argparse.Namespace(runs=tmp_path, data=["p"], steps=60, batch=8, set=[], backbone="tiny-llama")
    plain, *others = [command(name, asked, None) for name in ABLATIONS]
    for name, words in zip(list(ABLATIONS)[1:], others, strict=True):
        assert words[words.index("--system") + 1] == NEXTMEM
        new = {word for word in set(words) - set(plain) if "steps=" not in word and not word.startswith("/")}
        assert new == {f"{key}={value}" for key, value in ABLATIONS[name].items()}


@pytest.mark.training
def test_a_queue_that_is_run_again_trains_only_what_is_missing(tmp_path):
    same = {"num_latents": 2, "chunk_tokens": 16, "lora_rank": 2, "held_out": 2, "min_tokens": 8, "precision": "fp32"}
    same |= {"samples": 0, "warmup_steps": SHORT["warmup_steps"]}
    words = [sys.executable, "-m", "benchmarks.baselines", str(tmp_path / "runs"), "--backbone", "tiny-llama"]
    words += ["--data", str(passages(tmp_path)), "--steps", "10", "--batch", "4", "--nice", "0", *sets(**same)]
    words.append("--systems")

    def run() -> subprocess.CompletedProcess:
        return subprocess.run([*words, "dyprag-ours"], capture_output=True, text=True, cwd=Path(__file__).parents[1])

    first, again = run(), run()
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "dyprag-ours: training in" in first.stderr and "training" not in again.stderr
    assert all("| dyprag-ours | trained | 10 |" in ran.stdout for ran in (first, again))
