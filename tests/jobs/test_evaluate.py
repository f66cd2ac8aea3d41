"""`nextmem evaluate` with the tiny untrained codec: every figure is there, and a bad set is refused."""

from __future__ import annotations

import json

import pytest

TEXTS = ["The lamp in the hall burned all night.", "Seven grey geese crossed the border.", "Short."]


@pytest.fixture
def passages(tmp_path):
    path = tmp_path / "geese.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, TEXTS[0]]))
    return path


def test_each_different_passage_counts_once_and_short_ones_are_left_out(nextmem, tiny_codec_folder, passages, tmp_path):
    out = tmp_path / "results.json"
    ran = nextmem("evaluate", tiny_codec_folder, "--data", passages, "--min-tokens", 16, "--out", out, "--json")
    (record,) = ran.records
    assert ran.code == 0 and (record["set"], record["chunks"]) == ("geese", 2)
    assert record["tokens"] == 64 and record["nf4"]["whole"] == 0.0 and record["raw"] == 1.0
    assert json.loads(out.read_text())["sets"]["geese"]["patch_bytes"] == record["patch_bytes"] > 16


def test_a_table_is_printed_for_each_set(nextmem, tiny_codec_folder, passages):
    ran = nextmem("evaluate", tiny_codec_folder, "--data", passages, "--min-tokens", 16)
    assert ran.out.startswith("set       geese: 2 chunks, 64 tokens\n") and "dense" in ran.out


def test_a_set_without_long_passages_is_refused(refused, tiny_codec_folder, passages):
    with passages.open("w") as file:
        file.write(json.dumps({"text": "Short."}) + "\n")
    said = refused("evaluate", tiny_codec_folder, "--data", passages)
    assert said.endswith("has no passage of 32 tokens or more in its column 'text'")
