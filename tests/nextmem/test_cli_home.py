"""A home folder that cannot be written to, or that there is none of: the line names NEXTMEM_CACHE, which is enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from works import jsonl

from jobs.cluster.token import find_token
from model.embedded import cache_folder
from model.refusal import Refusal


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    for name in ("NEXTMEM_CACHE", "XDG_CACHE_HOME", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/home")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_encode_names_the_variable_and_leaves_nothing(refused, tmp_path, more):
    corpus = jsonl(tmp_path / "corpus.jsonl", {"a": "Some text."})
    line = refused("encode", corpus, tmp_path / "bank", "--backbone", "tiny-llama", *more)
    assert line == (
        "/dev/null/home/.cache/nextmem/codecs, where converted weights and codecs are kept, cannot be written to "
        "(Not a directory): set NEXTMEM_CACHE to a folder that can"
    )
    assert not (tmp_path / "bank").exists()


def test_a_cache_that_is_named_is_where_it_lies_whatever_folder_is_the_current_one(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTMEM_CACHE", "cache")
    assert cache_folder() == tmp_path / "cache"


def test_a_user_without_any_home_is_told_to_name_a_cache(monkeypatch):
    """As in a container that makes up a user's number."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(Refusal, match="has no home folder to keep converted weights in: set NEXTMEM_CACHE to a folder"):
        cache_folder()


def test_a_home_that_cannot_be_looked_into_holds_no_token(monkeypatch):
    assert find_token() is None
    assert not Path("/dev/null/home").exists()
