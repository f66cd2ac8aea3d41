"""Latents and words brought to one scale and added up, counted by hand."""

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


def search(bank, by, k=4, query="bread", weight=0.25):
    return find(bank, query, k, by=by, embed=lambda query: QUERY, weight=lambda: weight)


def scores(found):
    return {each.doc_id: pytest.approx(each.score) for each in found}


def test_a_chunk_scores_what_each_side_that_found_it_gives():
    """Cosines of 0.9, 0.8, 0.7 stretch to 1, 0.5, 0; a BM25 of 4.0 is 0.8 of the best, which is 5.0."""
    latents = ranked([hit("a", 0.9), hit("b", 0.8), hit("c", 0.7)])
    words = [hit("c", 5.0, by_words=Rank(1, 5.0)), hit("a", 4.0, by_words=Rank(2, 4.0))]
    fused = fuse(latents, words, 0.25)
    assert [each.chunk_id for each in fused] == ["a", "c", "b"]
    assert [each.score for each in fused] == pytest.approx([0.25 * 1 + 0.75 * 0.8, 0.75, 0.25 * 0.5])
    assert [each.by_latents.place for each in fused] == [1, 3, 2]
    assert [each.by_words and each.by_words.place for each in fused] == [2, 1, None]
    assert [each.by_latents.given for each in fused] == pytest.approx([0.25, 0, 0.125])
    assert [each.by_words.given for each in fused[:2]] == pytest.approx([0.6, 0.75])


def test_a_side_that_is_unsure_does_not_turn_round_one_that_is_sure():
    """By places alone `b` would win: second by words, first by latents."""
    latents = ranked([hit("b", 0.50), hit("c", 0.49), hit("a", 0.48)])
    words = [hit("a", by_words=Rank(1, 9.0)), hit("b", by_words=Rank(2, 3.0)), hit("c", by_words=Rank(3, 2.9))]
    assert [each.chunk_id for each in fuse(latents, words, 0.25)] == ["a", "b", "c"]


def test_ties_go_by_chunk_id():
    words = [hit("b", by_words=Rank(1, 1.0)), hit("a", by_words=Rank(2, 1.0))]
    assert [each.chunk_id for each in fuse(ranked([hit("b", 0.5), hit("a", 0.5)]), words, 0.5)] == ["a", "b"]


def test_a_weight_that_is_no_share_is_refused(bank):
    with pytest.raises(ValueError, match=r"the weight of the latents is 1\.5: wanted 0"):
        search(bank, "both", weight=1.5)


def test_with_all_or_no_weight_one_side_decides(bank):
    by_latents, by_words = (search(bank, "both", weight=weight) for weight in (1.0, 0.0))
    assert [each.doc_id for each in by_latents] == [each.doc_id for each in search(bank, "latents")]
    assert [each.doc_id for each in by_words[:2]] == [each.doc_id for each in search(bank, "words")]


def test_each_side_alone_and_both(bank):
    assert [each.doc_id for each in search(bank, "latents")] == ["a", "b", "d", "c"]
    assert [each.doc_id for each in search(bank, "words")] == ["c", "a"]
    c, a = search(bank, "words")
    both = search(bank, "both")
    assert scores(both) == {"a": 0.25 + 0.75 * a.score / c.score, "c": 0.75, "b": 0.25 * 0.875, "d": 0.25 * 0.5}
    by_doc = {each.doc_id: each for each in both}
    assert by_doc["c"].by_latents.score == pytest.approx(0.1) and by_doc["c"].by_words.parts.keys() == {"bread"}


def test_each_side_brings_more_than_k_to_the_fusion(bank):
    """`c` is last by latents and first by words: looked at alone, the first of each would be `a` and `c`."""
    c, a = sorted(search(bank, "both", k=2), key=lambda each: each.doc_id, reverse=True)
    assert (c.doc_id, c.by_latents.place, c.by_words.place) == ("c", 4, 1)
    assert (a.doc_id, a.by_latents.place, a.by_words.place) == ("a", 1, 2)


def test_k_beyond_the_bank_gives_each_chunk_once(bank):
    assert sorted(each.doc_id for each in search(bank, "both", k=1000)) == ["a", "b", "c", "d"]


def test_a_search_by_words_alone_needs_no_embedding(bank):
    def never(*query):
        raise AssertionError("embedded")

    assert find(bank, "bread", 1, by="words", embed=never, weight=never)[0].doc_id == "c"


def test_another_way_of_searching_is_refused(bank):
    with pytest.raises(ValueError, match="a search by 'sound': wanted one of latents, words, both"):
        search(bank, "sound")


@pytest.mark.parametrize("by", ["latents", "words", "both"])
def test_no_hits_are_not_asked_for(bank, by):
    with pytest.raises(ValueError, match="k is 0"):
        search(bank, by, k=0)
