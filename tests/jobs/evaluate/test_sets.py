"""Sets as they lie in a folder: cut, limited, and with the passages that belong to a question."""

from __future__ import annotations

import json

import pytest
from harbour import PASSAGES, lines, write

from jobs.evaluate.sets import Cut, find_sets, load_set, mixed
from model.refusal import Missing, Refusal
from model.weights import find_weights


@pytest.fixture(scope="module")
def cut():
    return Cut(find_weights("tiny-llama").tokenizer(), tokens=200)


def loaded(folder, cut, limit=None, name="harbour"):
    return load_set(name, find_sets([str(folder)])[name], cut, limit)


def test_a_set_is_all_files_of_its_name(harbour_folder, cut):
    data = loaded(harbour_folder, cut)
    assert (len(data.texts), len(data.asked), len(data.queries), len(data.corpus)) == (24, 24, 24, 24)
    assert data.left_out == {} and data.asked[1].answers == ("75 minutes",)


def test_a_pool_is_what_shares_the_query_s_group(harbour_folder, cut):
    query = loaded(harbour_folder, cut).queries[5]
    assert query.pool == ("p4", "p5", "p6", "p7") and query.gold == {"p5"}


def test_a_pool_may_be_named_by_passages_or_by_sessions(tmp_path, cut):
    write(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "eval_harbour.jsonl").read_text().splitlines()]
    rows[0]["extra"] = json.dumps({"context_passage_ids": ["p9", "p0"]})
    rows[1]["extra"] = json.dumps({"answer_session_ids": ["ferry", "light"]})
    lines(tmp_path / "eval_harbour.jsonl", rows)
    queries = loaded(tmp_path, cut).queries
    assert queries[0].pool == ("p9", "p0") and len(queries[1].pool) == 8


def test_a_pool_of_gold_alone_tells_nothing_apart_and_is_none(tmp_path, cut):
    write(tmp_path)
    lines(
        tmp_path / "retrieval_harbour/qrels.jsonl",
        [{"query_id": "q0", "passage_id": f"p{i}", "score": 1} for i in range(4)],
    )
    (query,) = loaded(tmp_path, cut).queries
    assert query.pool is None and len(query.gold) == 4


def test_a_limit_keeps_what_the_questions_need(harbour_folder, cut):
    data = loaded(harbour_folder, cut, limit=2)
    assert len(data.queries) == len(data.texts) == 2 and data.of_corpus == 24
    ids = [passage.id for passage in data.corpus]
    assert len(ids) == 20 and {"p0", "p1", "p2", "p3"} <= set(ids) and ids == sorted(ids, key=lambda i: int(i[1:]))
    assert [text.id for text in loaded(harbour_folder, cut, limit=3).texts][:2] == [text.id for text in data.texts]


def test_texts_are_cut_to_a_chunk_counted_once_and_short_ones_left_out(tmp_path, cut):
    long = "".join(text for _, text, _, _ in PASSAGES[:4])
    lines(tmp_path / "passages_sea.jsonl", [{"text": t} for t in (long, long, "Short.", "", None)])
    data = loaded(tmp_path, cut, name="sea")
    assert [text.text for text in data.texts] == [long[:200]]
    assert data.left_out == {"texts under 32 tokens": 1, "without text": 2}


def test_a_cut_text_is_no_more_tokens_than_it_may_be():
    """The pieces of a word that is cut in two may be more than the word's."""
    cut = Cut(find_weights("tiny-qwen3").tokenizer(), tokens=10)
    for text in ("東京は日本の首都です。", "unbelievable", "a é" * 9):
        assert cut.count(cut.first(text)) <= 10 and text.startswith(cut.first(text))


def test_questions_without_answer_or_on_long_texts_are_counted(tmp_path, cut):
    rows = [
        {"id": "a", "question": "Where?", "answers": [], "text": PASSAGES[0][1]},
        {"id": "b", "question": "Where?", "answers": ["here"], "text": PASSAGES[0][1] * 3},
        {"id": "c", "question": "Where?", "answers": [" here "], "text": PASSAGES[0][1]},
    ]
    lines(tmp_path / "eval_sea.jsonl", rows)
    data = loaded(tmp_path, cut, name="sea")
    assert [asked.answers for asked in data.asked] == [("here",)]
    assert data.left_out == {"questions without an answer": 1, "questions on more than one chunk": 1}


def test_a_mix_takes_sets_in_turn(harbour_folder, tmp_path, cut):
    lines(tmp_path / "sea.jsonl", [{"id": "s", "text": "The sea is grey, and the gulls are loud today."}])
    both = [loaded(harbour_folder, cut), loaded(tmp_path, cut, name="sea")]
    assert [text.id for text in mixed(both, 3).texts] == ["harbour/q0", "sea/s", "harbour/q1"]


def test_what_a_folder_lacks_is_named(tmp_path, cut):
    lines(tmp_path / "retrieval_sea" / "corpus.jsonl", [{"id": "p", "text": "Sea."}])
    with pytest.raises(Missing, match=r"has no qrels.parquet \(or .jsonl"):
        loaded(tmp_path, cut, name="sea")
    lines(tmp_path / "retrieval_sea" / "qrels.jsonl", [{"query": "q"}])
    with pytest.raises(Refusal, match="has no column 'query_id'"):
        loaded(tmp_path, cut, name="sea")
    lines(tmp_path / "texts.jsonl", [{"body": "Sea."}])
    with pytest.raises(Refusal, match="no column 'text'; it has body"):
        loaded(tmp_path, cut, name="texts")
    (tmp_path / "torn.jsonl").write_text("{")
    with pytest.raises(Refusal, match="cannot be read"):
        loaded(tmp_path, cut, name="torn")
