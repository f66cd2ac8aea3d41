"""What docs/agent.md shows runs as it stands there, with the tiny codec in the shipped one's place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "agent.md"


def blocks(word: str) -> list[str]:
    """The Python that the document shows, of which the word is a part."""
    found = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.S)
    return [block for block in found if word in block]


@pytest.fixture
def shown(tmp_path, monkeypatch, tiny_codec_folder):
    """Runs a block in an empty folder; what it named."""
    import model.default_codec

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model.default_codec, "default_codec_folder", lambda backbone: tiny_codec_folder)

    def run(block: str) -> dict:
        names: dict = {}
        exec(block, names)
        return names

    return run


def test_a_memory_is_begun_as_it_is_shown(shown, capsys):
    (block,) = blocks("nextmem.create")
    context = shown(block)["context"]
    assert "The ferry leaves pier 3 at 5:40." in context.text and context.tokens <= 200
    assert capsys.readouterr().out.startswith(context.text)


def test_latents_are_read_as_it_is_shown(shown):
    begun, read = blocks("nextmem.create")[0], blocks("memory.reader()")[0]
    names = shown(begun + read)
    assert names["prompt"].shape[1] == len(names["context"].embeds) + names["question"].shape[0]
