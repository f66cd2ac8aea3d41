"""The examples, run as they stand, on a small corpus and the two-layer backbone."""

from __future__ import annotations

import math
import shutil

import pytest

import nextmem
from examples import latents_in_prompt, living, notebook, recall, search, tables

pytestmark = pytest.mark.ray

DOCUMENTS = {
    "ferry": "The ferry leaves at dawn and crosses the strait in an hour. " * 5,
    "bread": "Bread rises because yeast turns the sugar of the dough into gas. " * 5,
    "short": "東京は日本の首都です。",
}


@pytest.fixture(scope="module")
def bank(tmp_path_factory, ray_session):
    """A bank of three documents, made by the first example; and the ids of the hits that it printed."""
    from works import jsonl

    folder = tmp_path_factory.mktemp("examples")
    corpus = jsonl(folder / "corpus.jsonl", DOCUMENTS)
    hits = search.main(str(corpus), str(folder / "bank"), "the ferry", backbone="tiny-llama")
    return str(folder / "bank"), hits


def test_search_prints_the_hits_of_the_bank(bank):
    with nextmem.open(bank[0]) as opened:
        assert [hit.chunk_id for hit in opened.search("the ferry", k=3, by="both")] == bank[1]
        assert len(bank[1]) == 3


def test_recall_gives_a_document_exactly(bank):
    assert recall.main(bank[0], "bread") == DOCUMENTS["bread"]


def test_duckdb_and_polars_see_every_row(bank, tmp_path):
    with nextmem.open(bank[0]) as opened:
        chunks = len(opened)
    assert tables.main(bank[0], str(tmp_path / "out")) == (chunks, chunks)


def test_a_bank_stays_open_between_questions(bank):
    found = notebook.main(bank[0], "the ferry", "the ferry")
    assert found[0] == found[1] != ""


def test_what_a_bank_is_told_is_found_and_corrected(bank, tmp_path):
    folder = shutil.copytree(bank[0], tmp_path / "bank")
    before, after = living.main(str(folder))
    assert before == living.TOLD["naxos-ferry"] and after == before.replace("5:40", "6:10")
    assert living.main(str(folder)) == [before, after]


def test_latents_are_compared_with_the_text_and_with_nothing(bank, capsys):
    means = latents_in_prompt.main(bank[0], documents=2)
    assert set(means) == {"the text", "its latents", "nothing", "foreign latents"}
    assert all(math.isfinite(value) and value > 0 for value in means.values())
    assert len(set(means.values())) == 4  # each prompt is another one
    assert capsys.readouterr().out.count("nats a token") == 4
