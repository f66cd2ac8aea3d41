"""Latents and words joined by their places, counted by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from banks import IDENTITY, E, rows

from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.find import find, fuse, ranked
from pipeline.bank.search import Hit, Rank
from pipeline.stems import pack

TEXTS = {"a": "bread rises", "b": "the loom", "c": "bread bread bread", "d": "a kiln"}
ALONG = {"a": 0.9, "b": 0.8, "c": 0.1, "d": 0.5}  # cosines with the query
QUERY = np.eye(E)[0]


def hit(chunk_id, score=0.0, **ranks):
    return Hit(chunk_id, "doc", 0, "", 0, 1, score, **ranks)


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    table = rows("u1", dict.fromkeys(TEXTS, 1))
    vectors = [[cosine, (1 - cosine**2) ** 0.5, *[0.0] * (E - 2)] for cosine in ALONG.values()]
    for name, values in {"stems": [pack(t) for t in TEXTS.values()], "embedding": vectors}.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)), chunks=4)])
    return bank


def search(bank, by, k=4, query="bread"):
    return find(bank, query, k, by=by, embed=lambda query: QUERY)


def test_a_chunk_scores_one_over_sixty_and_its_place_from_each_side_that_found_it():
    latents = ranked([hit("a", 0.9), hit("b", 0.8), hit("c", 0.7)])
    words = [hit("c", 5.0, by_words=Rank(1, 5.0)), hit("a", 4.0, by_words=Rank(2, 4.0))]
    fused = fuse(latents, words)
    assert [(each.chunk_id, each.score) for each in fused] == [
        ("a", 1 / 61 + 1 / 62),
        ("c", 1 / 63 + 1 / 61),
        ("b", 1 / 62),
    ]
    assert [each.by_latents.place for each in fused] == [1, 3, 2]
    assert [each.by_words and each.by_words.place for each in fused] == [2, 1, None]


def test_ties_go_by_chunk_id():
    words = [hit("b", by_words=Rank(1, 1.0)), hit("a", by_words=Rank(2, 0.5))]
    assert [each.chunk_id for each in fuse(ranked([hit("a"), hit("b")]), words)] == ["a", "b"]


def test_each_side_alone_and_both(bank):
    assert [each.doc_id for each in search(bank, "latents")] == ["a", "b", "d", "c"]
    assert [each.doc_id for each in search(bank, "words")] == ["c", "a"]
    both = search(bank, "both")
    assert [(each.doc_id, each.score) for each in both] == [
        ("a", 1 / 61 + 1 / 62),
        ("c", 1 / 64 + 1 / 61),
        ("b", 1 / 62),
        ("d", 1 / 63),
    ]
    assert both[1].by_latents.score == pytest.approx(0.1) and both[1].by_words.parts.keys() == {"bread"}


def test_each_side_brings_more_than_k_to_the_fusion(bank):
    """`c` is last by latents and first by words: looked at alone, the first of each would be `a` and `c`."""
    assert [each.doc_id for each in search(bank, "both", k=1)] == ["a"]
    assert search(bank, "both", k=2)[1].by_latents.place == 4


def test_k_beyond_the_bank_gives_each_chunk_once(bank):
    assert sorted(each.doc_id for each in search(bank, "both", k=1000)) == ["a", "b", "c", "d"]


def test_a_search_by_words_alone_needs_no_embedding(bank):
    def never(query):
        raise AssertionError("embedded")

    assert find(bank, "bread", 1, by="words", embed=never)[0].doc_id == "c"


def test_another_way_of_searching_is_refused(bank):
    with pytest.raises(ValueError, match="a search by 'sound': wanted one of latents, words, both"):
        search(bank, "sound")


@pytest.mark.parametrize("by", ["latents", "words", "both"])
def test_no_hits_are_not_asked_for(bank, by):
    with pytest.raises(ValueError, match="k is 0"):
        search(bank, by, k=0)
