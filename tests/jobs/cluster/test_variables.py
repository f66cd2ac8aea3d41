"""What a job finds in the environment, and what its workers get of it."""

from __future__ import annotations

import os

import pytest

from jobs.cluster.session import runtime_env, set_variables

NAMES = ("TOKENIZERS_PARALLELISM", "RAY_ENABLE_AUTO_CONNECT", "RAY_USAGE_STATS_ENABLED")


@pytest.fixture
def unset(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that monkeypatch puts back what was there
        monkeypatch.delenv(name)


def test_a_job_sets_what_nobody_has_set(unset, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    set_variables()
    assert [os.environ[name] for name in NAMES] == ["true", "0", "0"]


def test_workers_find_the_cache_wherever_they_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTMEM_CACHE", "cache")
    assert runtime_env(tmp_path / "staged")["env_vars"]["NEXTMEM_CACHE"] == str(tmp_path / "cache")
    assert os.environ["NEXTMEM_CACHE"] == "cache"
