"""The bridges' examples in docs/agent.md run as they stand there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "nextmem"))
from test_agent_docs import blocks, shown  # noqa: F401  (a fixture)

BRIDGES = blocks("nextmem.bridges")


@pytest.mark.parametrize("block", BRIDGES, ids=range(len(BRIDGES)))
def test_a_bridge_is_used_as_it_is_shown(shown, block, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", "none is called")
    assert len(BRIDGES) == 4
    store = shown(block)["store"]
    assert (len(store.memory) > 0) == ("mem0" not in block)  # mem0's example only opens one
