"""`make demo`, with the two-layer backbone: every command that it shows works, also when it runs again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nextmem.demo import ARTICLES, BANK

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
SHOWN = ["head", "encode", "info", "search", "search", "search", "recall", "recall", "refine", "recall", "verify"]


def test_the_demo_runs_to_its_end_and_runs_again(tmp_path):
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NEXTMEM_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "nextmem.demo", "--backbone", "tiny-llama"]
    for done in (f"{ARTICLES} encoded, 0 held already", f"0 encoded, {ARTICLES} held already"):
        ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        shown = [line.removeprefix("$ nextmem ").removeprefix("$ ").split()[0]
                 for line in ran.stdout.splitlines() if line.startswith("$ ")]  # fmt: skip
        assert shown == SHOWN and done in ran.stdout
    assert f"{BANK}/ is there from an earlier run" in ran.stdout
