"""An agent's memory: what fits into a budget, and what it costs. The tiny codec, without Ray; its tokens are bytes."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest
import torch
from works import ARTICLES

import nextmem
from nextmem.context import GAP, in_reading_order, text_within, that_fit

LATENTS, WIDTH, CHUNK_TOKENS = 3, 64, 32  # of the tiny codec


@pytest.fixture
def memory(articles):
    with nextmem.Memory(articles) as opened:
        yield opened


@pytest.mark.parametrize("budget", [1, 31, 32, 100, 101, 10_000])
def test_a_context_of_text_takes_no_more_than_its_budget(memory, budget):
    context = memory.context("the quick fox", tokens=budget)
    assert context.tokens == len(context.text.encode()) == context.text_tokens <= budget
    assert (context.text == "") == (not context.hits)


def test_a_context_of_text_is_of_exact_chunks_in_reading_order(memory):
    context = memory.context("the quick fox", tokens=10_000)
    assert len(context.hits) == len(memory) and context.left_out == 0
    documents = dict.fromkeys(hit.doc_id for hit in context.hits)
    assert context.text == GAP.join(ARTICLES[doc_id] for doc_id in documents)  # neighbours stand side by side again


def test_a_context_of_latents_takes_its_latents_and_no_text(memory):
    context = memory.context("the quick fox", tokens=7, as_="latents")
    assert context.tokens == 2 * LATENTS and len(context.hits) == 2 and context.text is None
    assert context.embeds.shape == (2 * LATENTS, WIDTH)
    stored = memory.bank.latents([hit.chunk_id for hit in context.hits])
    assert torch.equal(context.latents.values, stored.values)
    assert context.left_out == 0  # the search asked for no more than fits


def test_a_context_says_what_it_costs_against_text_and_history(memory):
    whole = sum(len(text.encode()) for text in ARTICLES.values())
    context = memory.context("the quick fox", tokens=LATENTS, as_="latents")
    (hit,) = context.hits
    length = len(memory.recall(chunk_id=hit.chunk_id).encode())
    assert (context.tokens, context.text_tokens, context.history_tokens) == (LATENTS, length, whole)
    assert context.cost == {"tokens": LATENTS, "of_text": LATENTS / length, "of_history": LATENTS / whole}


def test_k_bounds_the_chunks(memory):
    assert len(memory.context("the quick fox", tokens=10_000, k=2).hits) == 2


def test_a_filter_keeps_a_context_to_its_rows(memory):
    assert memory.context("the quick fox", tokens=10_000, filter={"doc_id": "tokyo"}).text == ARTICLES["tokyo"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"tokens": 0}, "0 tokens: ask for at least one"), ({"as_": "poem"}, "as 'poem': wanted one of text, latents")],
)
def test_nonsense_is_refused(memory, asked, said):
    with pytest.raises(nextmem.Refusal, match=said):
        memory.context("fox", **asked)


def test_a_context_of_text_has_no_embeds(memory):
    with pytest.raises(TypeError, match="this context is text: ask for as_='latents'"):
        _ = memory.context("fox").embeds


def test_a_smaller_chunk_fits_where_a_larger_one_does_not(memory):
    hits = memory.search("the quick fox", k=3)
    costs = dict(zip((hit.chunk_id for hit in hits), (30, 60, 20), strict=True))
    assert that_fit(hits, costs, 50) == [hits[0], hits[2]]


def test_the_worst_hit_goes_where_the_gaps_do_not_fit(memory):
    fox, tokyo = (memory.bank.search(text[:9], k=1, filter={"doc_id": doc})[0] for doc, text in
                  (("fox", ARTICLES["fox"]), ("tokyo", ARTICLES["tokyo"])))  # fmt: skip
    texts = {fox.chunk_id: "a" * 10, tokyo.chunk_id: "b" * 10}
    assert text_within([fox, tokyo], texts, 22, len)[1] == "a" * 10 + GAP + "b" * 10
    assert text_within([fox, tokyo], texts, 21, len) == ([fox], "a" * 10, 10)


def test_documents_stand_by_their_best_hit_and_chunks_as_in_the_document(memory):
    hits = memory.search("the quick fox", k=len(memory))
    ordered = in_reading_order(hits)
    assert ordered[0].doc_id == hits[0].doc_id
    assert list(dict.fromkeys(h.doc_id for h in ordered)) == list(dict.fromkeys(h.doc_id for h in hits))
    for doc_id in ARTICLES:
        positions = [hit.position for hit in ordered if hit.doc_id == doc_id]
        assert positions == list(range(len(positions)))


@pytest.mark.parametrize(
    "change", [lambda m: m.remember("x"), lambda m: m.forget(["fox"]), lambda m: m.edit("0" * 32, "a", "b")]
)
def test_a_memory_that_is_read_only_refuses_changes(articles, change):
    with nextmem.Memory(articles, read_only=True) as memory:
        version = memory.bank.version
        with pytest.raises(nextmem.Refusal, match="is read-only"):
            change(memory)
        assert memory.bank.reload() == version


def test_an_empty_bank_is_made_with_columns_of_its_own(tmp_path, tiny_codec_folder):
    columns = {"who": str, "turn": int, "when": datetime.datetime, "score": pa.float32()}
    with nextmem.create(tmp_path / "bank", codec=tiny_codec_folder, columns=columns, precision="fp32") as bank:
        kinds = {"who": "string", "turn": "int64", "when": "timestamp[us, tz=UTC]", "score": "float"}
        assert {name: str(bank.schema.field(name).type) for name in columns} == kinds
        memory = nextmem.Memory(bank)
        assert len(memory) == 0 and memory.search("anything") == []
        context = memory.context("anything", as_="latents")
        assert (context.hits, context.tokens, context.history_tokens, context.latents) == ((), 0, 0, None)
    with pytest.raises(FileExistsError):
        nextmem.create(tmp_path / "bank", codec=tiny_codec_folder)


def test_a_column_of_no_known_type_is_refused_and_nothing_is_made(tmp_path, tiny_codec_folder):
    with pytest.raises(nextmem.Refusal, match="'tags' is to be <class 'list'>: wanted one of str, int"):
        nextmem.create(tmp_path / "bank", codec=tiny_codec_folder, columns={"tags": list})
    assert not (tmp_path / "bank").exists()


def test_queries_embedded_together_are_as_one_by_one(memory):
    codec = memory.bank.codec()
    queries = ["the quick fox", "東京", "a query that is longer than one chunk of the codec's, by far"]
    together = codec.embed_each(queries)
    assert together.shape == (3, WIDTH)
    for query, row in zip(queries, together, strict=True):
        assert row == pytest.approx(codec.embed(query), abs=1e-5)
    assert codec.embed_each([]).shape == (0, WIDTH)
    known = memory.bank.search("", k=3, embedding=together[0])
    assert [hit.chunk_id for hit in known] == [hit.chunk_id for hit in memory.search(queries[0], k=3)]


def test_chunks_of_the_tiny_codec_are_as_long_as_these_tests_take_them(memory):
    assert max(memory.bank.to_arrow(["num_tokens"])["num_tokens"].to_pylist()) == CHUNK_TOKENS
