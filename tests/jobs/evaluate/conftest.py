"""Shared by the tests of an evaluation: the harbour set, and one evaluation of all tasks with tiny systems."""

from __future__ import annotations

import harbour
import pytest


@pytest.fixture(scope="session")
def harbour_folder(tmp_path_factory):
    return harbour.write(tmp_path_factory.mktemp("harbour"))


@pytest.fixture(scope="session")
def evaluated(harbour_folder, tiny_codec_folder, tmp_path_factory):
    """All tasks of a tiny codec, dense, NF4 and refined, and of text and BM25. Tests only read it."""
    import nextmem

    out = tmp_path_factory.mktemp("evaluated")
    results = nextmem.evaluate(
        [tiny_codec_folder, "text", "bm25"],
        data=harbour_folder,
        tasks="all",
        limit=6,
        out=out,
        refine=2,
        backbone="tiny-llama",
        precision="fp32",
        draws=500,
    )
    return results, out
