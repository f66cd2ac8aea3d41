"""Peers' own suites, in an environment of their own: `make test-peers`. Elsewhere nothing is collected here."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

PEERS = {
    "test_langchain.py": "langchain_tests",
    "test_langgraph.py": "langgraph",
    "test_haystack.py": "haystack",
    "test_mem0.py": "mem0",
    "test_shown.py": "mem0",
}
collect_ignore = [file for file, package in PEERS.items() if find_spec(package) is None]
if not Path(os.environ.get("NEXTMEM_PEERS_NODE", "."), "conformance").exists():
    collect_ignore.append("test_mcp_conformance.py")


@pytest.fixture
def new_bank(tmp_path, tiny_codec_folder):
    """Where a new bank may be made, and what makes it small: the tiny codec."""
    return {"bank": tmp_path / "bank", "codec": tiny_codec_folder, "precision": "fp32"}
