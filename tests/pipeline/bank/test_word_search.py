"""Search by words: BM25 by hand and as bm25s computes it; rows without words, by their text or not at all."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import bm25s
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from banks import IDENTITY, rows

from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.word_search import nearest_by_words
from pipeline.stems import hashes, pack, words

SAMPLES = Path(__file__).parents[3] / "samples" / "articles.jsonl"
DOUGH = {"a": "Yeast, yeast, dough.", "b": "Dough and water", "c": "Looms hold warp"}


def add(bank, unit_id, texts, *, keep=("stems",)):
    """One row for each of {doc_id: text}, with what is kept of it."""
    table = rows(unit_id, dict.fromkeys(texts, 1))
    kept = {"stems": [pack(text) for text in texts.values()], "text": list(texts.values())}
    for name in keep:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(kept[name], table.schema.field(name).type))
    commit(bank, [Receipt(unit_id, tuple(bank.writer().write(unit_id, table)), chunks=table.num_rows)])
    return bank


@pytest.fixture
def bank(tmp_path):
    return Bank.create(tmp_path / "bank", IDENTITY)


def found(bank, query, k=5, **options):
    return [(hit.doc_id, round(hit.score, 4)) for hit in nearest_by_words(bank, query, k, **options)]


def by_hand(count, length, holding, of=3, mean=3.0):
    """BM25 of one word of the query."""
    rarity = log(1 + (of - holding + 0.5) / (holding + 0.5))
    return rarity * count / (count + 1.5 * (0.25 + 0.75 * length / mean))


def test_scores_are_those_counted_by_hand(bank):
    add(bank, "u1", DOUGH)
    assert found(bank, "yeast") == [("a", round(by_hand(2, 3, 1), 4))] == [("a", 0.5605)]
    assert found(bank, "doughs of water") == [
        ("b", round(by_hand(1, 3, 2) + by_hand(1, 3, 1), 4)),
        ("a", round(by_hand(1, 3, 2), 4)),
    ]
    assert found(bank, "yeast Yeast") == [("a", round(2 * by_hand(2, 3, 1), 4))]


def test_each_hit_says_its_place_and_what_each_word_gave_most_first(bank):
    best, second = nearest_by_words(add(bank, "u1", DOUGH), "the dough's waters, waters", 5)
    assert (best.doc_id, best.by_words.place, second.by_words.place) == ("b", 1, 2)
    assert list(best.by_words.parts) == ["waters", "dough"] and list(second.by_words.parts) == ["dough"]
    assert sum(best.by_words.parts.values()) == pytest.approx(best.score)


@pytest.mark.parametrize("batch_rows", [3, 8192])
def test_scores_are_those_of_bm25s(bank, monkeypatch, batch_rows):
    monkeypatch.setattr("pipeline.bank.word_search.BATCH_ROWS", batch_rows)
    texts = {row["id"]: row["text"] for row in map(json.loads, SAMPLES.read_text().splitlines())}
    add(bank, "u1", texts)
    theirs = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    theirs.index([[str(h) for h in hashes(words(text))] for text in texts.values()], show_progress=False)
    for query in ("how does bread rise", "the moon and the planets", "who invented double-entry bookkeeping?"):
        scores = theirs.get_scores([str(h) for h in hashes(words(query)) if str(h) in theirs.vocab_dict])
        best = sorted(((doc, float(s)) for doc, s in zip(texts, scores, strict=True)), key=lambda d: -d[1])[:5]
        ours = nearest_by_words(bank, query, 5)
        assert [hit.doc_id for hit in ours] == [doc for doc, _ in best]
        assert [hit.score for hit in ours] == pytest.approx([score for _, score in best], rel=1e-5)


def test_the_best_k_are_the_first_of_all_and_a_k_beyond_the_bank_gives_all_that_hold_a_word(bank):
    add(bank, "u1", {f"d{n}": "bread " * n + "filler " * (12 - n) for n in range(1, 12)})
    everything = [doc for doc, _ in found(bank, "bread", 500)]
    assert everything == [f"d{n}" for n in range(11, 0, -1)]
    assert [doc for doc, _ in found(bank, "bread", 3)] == everything[:3]


def test_ties_go_by_chunk_id(bank):
    add(bank, "u1", {f"d{n}": "the same bread" for n in range(9)})
    hits = nearest_by_words(bank, "bread", 4)
    every = pa.Table.from_batches(bank.rows(["chunk_id"]))["chunk_id"].to_pylist()
    assert [hit.chunk_id for hit in hits] == sorted(every)[:4]


def test_rows_without_words_are_found_by_their_texts_and_score_the_same(tmp_path):
    texts, stems = (Bank.create(tmp_path / name, IDENTITY) for name in ("texts", "stems"))
    add(texts, "u1", DOUGH, keep=("text",))
    add(stems, "u1", DOUGH)
    assert found(texts, "dough water") == found(stems, "dough water") != []


def test_in_a_bank_of_both_kinds_each_row_counts_once(bank):
    add(bank, "u1", {"a": DOUGH["a"]}, keep=("text", "stems"))
    add(bank, "u2", {"b": DOUGH["b"]}, keep=("text",))
    add(bank, "u3", {"c": DOUGH["c"]})
    assert found(bank, "yeast") == [("a", 0.5605)]


def test_rows_with_neither_are_counted_aloud(bank):
    add(bank, "u1", DOUGH)
    add(bank, "u2", {"silent": "dough"}, keep=())
    said = []
    assert {doc for doc, _ in found(bank, "dough", say=said.append)} == {"a", "b"}
    assert said[0] == "by words: 1 of 4 chunks keep neither words nor text, and are not found"


def test_a_bank_without_words_or_texts_says_how_to_make_one_that_has_them(bank):
    add(bank, "u1", DOUGH, keep=())
    with pytest.raises(ValueError, match="keeps neither words nor texts: encode its corpus into a new bank with `nex"):
        found(bank, "dough")


def test_a_query_of_stop_words_finds_where_they_are_dense_and_says_that_it_tells_little(bank):
    add(
        bank,
        "u1",
        {"a": "to be or not to be", "b": "to be sure, the yeast must not be too old or dry", "c": "or to be"},
    )
    said = []
    assert found(bank, "to be or", say=said.append)[-1][0] == "b"
    assert said == [
        "by words: each word of the query stands in more than half of the chunks, or in none: it tells little"
    ]


def test_a_query_without_a_word_is_refused(bank):
    with pytest.raises(ValueError, match="the query has no word to look for"):
        found(add(bank, "u1", DOUGH), "?! ...")


def test_words_that_stand_nowhere_find_nothing(bank):
    said = []
    assert found(add(bank, "u1", DOUGH), "volcano", say=said.append) == [] == said
    assert found(Bank.create(bank.folder.uri + "-empty", IDENTITY), "dough") == []


def test_a_filter_narrows_the_rows_and_the_statistics(bank):
    add(bank, "u1", DOUGH)
    only = found(bank, "dough", filter=pc.field("doc_id") != "c")
    assert only == [(doc, round(by_hand(1, 3, 2, of=2), 4)) for doc, _ in only] and len(only) == 2
