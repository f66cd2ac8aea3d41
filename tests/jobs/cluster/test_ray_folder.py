"""A TMPDIR that Ray's sockets do not fit into, or that cannot be written to: a short folder instead, and a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs.cluster.ray_folder import LONGEST, SOCKET_PATH, ray_folder, require_home
from model.refusal import Refusal

ROOT = Path(__file__).parents[3]

LONG = "scratch/local/jobs/0012345678.login-01.cluster.example.org/user-space/tmp-of-the-job-0012345678"


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)


def test_a_short_tmpdir_is_left_to_ray(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert ray_folder() is None


def test_the_longest_path_that_fits_is_taken_and_one_more_character_is_not(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="nm", dir="/tmp") as short:
        longest = short + "/" + "x" * (SOCKET_PATH - len(LONGEST) - len(short) - 1)
        monkeypatch.setenv("TMPDIR", longest)
        assert ray_folder() is None
        monkeypatch.setenv("TMPDIR", longest + "x")
        assert ray_folder() == "/tmp/ray"


@pytest.mark.parametrize("folder, why", [(f"/tmp/{LONG}", "is too long for Ray's sockets, by "),
                                         ("relative", "is not an absolute path"),
                                         ("/dev/null/tmp", "cannot be written to (Not a directory)")])  # fmt: skip
def test_another_folder_is_taken_and_said(monkeypatch, capsys, folder, why):
    monkeypatch.setenv("TMPDIR", folder)
    assert ray_folder() == "/tmp/ray"
    said = capsys.readouterr().err
    assert said.startswith(f"TMPDIR={folder} {why}") and said.endswith("; Ray keeps its session in /tmp/ray\n")


def test_a_ray_tmpdir_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{LONG}")
    with pytest.raises(Refusal, match=r"RAY_TMPDIR=.* is too long for Ray's sockets, by \d+ characters: name a short"):
        ray_folder()


def test_a_home_in_which_ray_cannot_keep_its_token_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home")
    with pytest.raises(Refusal, match=r"/dev/null/home/\.ray, where Ray keeps its token, cannot be made"):
        require_home()


@pytest.mark.ray
def test_encode_works_under_a_long_tmpdir(tmp_path):
    os.makedirs(tmp_path / LONG)
    corpus = tmp_path / "one.jsonl"
    corpus.write_text(json.dumps({"id": "a", "text": "one short text about the ferry"}) + "\n")
    own = {"TMPDIR": str(tmp_path / LONG), "PYTHONPATH": str(ROOT), "NEXTMEM_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "nextmem.cli", "encode", corpus, tmp_path / "bank", "--backbone", "tiny-llama"]
    ran = subprocess.run(words, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert ran.returncode == 0 and "Ray keeps its session in /tmp/ray" in ran.stderr, ran.stderr
