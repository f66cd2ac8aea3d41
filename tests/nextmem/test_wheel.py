"""The built wheel, in an environment without the checkout, from a folder whose own modules have our packages' names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from works import jsonl

ROOT = Path(__file__).parents[2]
PACKAGES = ("model", "pipeline", "jobs", "nextmem")
DATA = {
    "model/calibration.txt",
    *(f"model/codecs/smollm2-135m/{name}" for name in ("codec.json", "codec.safetensors", "tokenizer.json")),
    "jobs/cluster/start.sh",
    *(f"{package}/py.typed" for package in PACKAGES),
}
DOCUMENTS = {"fox": "The quick brown fox jumps over the lazy dog. " * 3, "tokyo": "東京は日本の首都です。"}
SCRIPT = """
import nextmem

with nextmem.open("bank") as bank:
    hits = bank.search("a fox", k=2)
    texts = [bank.recall(doc_id=hit.doc_id) for hit in hits]
print(nextmem.__file__, len(hits), all(texts))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="no hatchling to build with: pip install -e .[dev]")
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of an environment that holds the wheel, and beside it only what this one has installed."""
    home = tmp_path_factory.mktemp("env") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    (own,) = home.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]  # a folder that a .pth names: no .pth of its
    (own / "shared.pth").write_text("\n".join(shared))
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    return home / "bin"


@pytest.fixture
def folder(tmp_path):
    """The user's: a corpus, a script, and modules that must never be imported."""
    for name in ("model", "pipeline", "jobs"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the stray {name}.py was imported')\n")
    jsonl(tmp_path / "corpus.jsonl", DOCUMENTS)
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def test_data_files_travel(wheel):
    with zipfile.ZipFile(wheel) as packed:
        assert set(packed.namelist()) >= DATA


@pytest.mark.ray
def test_command_face_and_workers_run_beside_stray_modules(installed, folder):
    def run(program: str, *arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder)}  # before the installed packages, in Ray's workers too
        done = subprocess.run([installed / program, *arguments], cwd=folder, env=environment, capture_output=True,
                              text=True, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    encoded = run("nextmem", "encode", "corpus.jsonl", "bank", "--backbone", "tiny-llama", "--json")
    assert json.loads(encoded.splitlines()[-1])["documents"] == len(DOCUMENTS)
    found = [json.loads(line) for line in run("nextmem", "search", "bank", "a fox", "-k", "2", "--json").splitlines()]
    assert len(found) == 2
    where, *rest = run("python", "script.py").split()
    assert Path(where).is_relative_to(installed.parent) and rest == ["2", "True"]
