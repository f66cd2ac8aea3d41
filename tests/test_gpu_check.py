"""The check of a new GPU, run dry: every part on two-layer models, without what such a machine may lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check import plain_nf4
from benchmarks.gpu_check.parts import PARTS
from benchmarks.gpu_check.shapes import SHAPES, random_backbone, weight_bytes
from model import nf4

MISSING = ("ray", "bitsandbytes", "deltalake", "gguf", "datasets", "zstandard", "click", "matplotlib")
DRY = ("--device", "cpu", "--tiny")
START = f"""
import runpy, sys
for name in {MISSING!r}: sys.modules[name] = None
sys.argv[0] = "gpu_check"
"""
RUN = "runpy.run_module('benchmarks.gpu_check', run_name='__main__')"


def check(folder: Path, *words: str, before: str = "") -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-c", f"{START}\n{before}\n{RUN}", *words, "--out", str(folder / "check.json")]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.training
def test_every_part_runs_without_what_a_bare_machine_lacks(tmp_path):
    done = check(tmp_path, *DRY)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = json.loads((tmp_path / "check.json").read_text())
    assert saved["nf4"] == "plain torch" and list(saved["parts"]) == list(PARTS)
    assert {part["status"] for part in saved["parts"].values()} == {"done"}
    for name, part in saved["parts"].items():
        assert part["figures"], name
        assert all(figure["name"] in done.stdout for figure in part["figures"])
    figures = {figure["name"]: figure["value"] for part in saved["parts"].values() for figure in part["figures"]}
    assert figures["exact in batches of 1"].startswith("8 of 8") and figures["ran out of memory, batches of 16"] > 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[-len(PARTS) :]] == [[name, "done"] for name in PARTS]


@pytest.mark.training
def test_a_part_that_fails_is_said_and_the_rest_goes_on_and_a_rerun_does_what_is_missing(tmp_path):
    broken = (
        "from benchmarks.gpu_check import parts\n"
        "def breaks(subject): raise RuntimeError('CUDA error:\\n no kernel image')\n"
        "parts.PARTS['verify'] = breaks"
    )
    first = check(tmp_path, *DRY, "--only", "encode,verify,recall", before=broken)
    assert first.returncode == 1 and "FAILED: RuntimeError: CUDA error: no kernel image" in first.stdout
    assert [line.split()[1] for line in first.stdout.splitlines()[-3:]] == ["done", "FAILED", "done"]
    second = check(tmp_path, *DRY, "--only", "encode,verify,recall")
    assert second.returncode == 0 and second.stdout.count("done before") == 2
    late = check(tmp_path, *DRY, "--only", "encode,memory", "--minutes", "0")
    assert late.returncode == 1 and "not begun" in late.stdout and "done before" in late.stdout


def test_a_machine_without_a_gpu_is_told_so_in_one_line(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = check(tmp_path)
    assert done.returncode == 1 and done.stdout.startswith("no GPU that torch") and done.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert check(tmp_path, "--only", "encode,flight").returncode == 2


@pytest.mark.parametrize("width", [64, 150])
def test_plain_nf4_is_what_bitsandbytes_stores(width):
    values = torch.randn(5, 3 * width, generator=torch.Generator().manual_seed(0)) * 3
    values[0] = 0.0
    mine, theirs = plain_nf4.quantise(values), nf4.quantise(values)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert torch.equal(plain_nf4.dequantise(*mine, 3 * width), nf4.dequantise(*theirs, 3 * width))


def test_shapes_have_the_weights_that_their_names_say():
    for name, wanted in {"smollm2-135m": 135e6, "qwen3-0.6b": 0.6e9, "qwen3-8b": 8.2e9}.items():
        assert weight_bytes(name) / 2 == pytest.approx(wanted, rel=0.01)
    assert set(SHAPES) <= set(PARTS)
    backbone = random_backbone("qwen3-8b", "fp32", "cpu", tiny=True)
    assert backbone.width == 64 and backbone.dtype == torch.float32 and torch.get_default_dtype() == torch.float32
