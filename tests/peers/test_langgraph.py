"""A LangGraph store: a thousand random operations give what LangGraph's own store in memory gives."""

from __future__ import annotations

import random

import pytest
from langgraph.store.base import (
    GetOp,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

import nextmem
from nextmem.bridges.langgraph import NextMemStore

NAMES, KEYS = ("users", "docs", 'od"d, [é]', "a"), tuple("klmno")


@pytest.fixture
def store(new_bank):
    made = NextMemStore(**new_bank)
    yield made
    made.memory.close()


def random_namespace(rng):
    return tuple(rng.choices(NAMES, k=rng.randint(1, 3)))


def random_value(rng):
    return {
        "text": rng.choice(["red fox", "grey heron", "blå hval"]),
        "n": rng.randint(0, 9),
        "deep": {"on": rng.random() < 0.5, "list": [1, rng.choice("xy")]},
    }


def random_filter(rng):
    return rng.choice(
        [None, {"n": {"$gte": 3, "$lt": 8}}, {"text": "red fox"}, {"n": {"$ne": 4}}, {"deep": {"on": True}},
         {"deep": {"list": [1, "x"]}}, {"text": "red fox", "n": {"$gt": 5}}]
    )  # fmt: skip


def random_op(rng):
    kind = rng.random()
    if kind < 0.4:
        return PutOp(random_namespace(rng), rng.choice(KEYS), random_value(rng) if rng.random() < 0.8 else None)
    if kind < 0.7:
        return GetOp(random_namespace(rng), rng.choice(KEYS))
    if kind < 0.9:
        prefix = random_namespace(rng)[: rng.randint(0, 2)]
        return SearchOp(prefix, filter=random_filter(rng), limit=10_000)
    how = MatchCondition(rng.choice(["prefix", "suffix"]), rng.choice([("users",), ("*", "a"), ("docs", "*")]))
    return ListNamespacesOp(
        match_conditions=rng.choice([None, (how,)]), max_depth=rng.choice([None, 1, 2]), limit=10_000
    )


def plain(result):
    """Without times, which differ; searches by namespace and key, for the other store's order is that of insertion."""
    if isinstance(result, list) and result and not isinstance(result[0], tuple):
        return sorted(((item.namespace, item.key, item.value) for item in result), key=lambda each: each[:2])
    return result if result is None or isinstance(result, list) else (result.namespace, result.key, result.value)


def listed(theirs: InMemoryStore, op: ListNamespacesOp):
    """What the other store lists, without namespaces that hold nothing: it keeps those it was only asked about."""
    full = {item.namespace for item in theirs.search((), limit=10_000)}
    whole = theirs.list_namespaces(limit=10_000)
    for empty in set(whole) - full:
        theirs._data.pop(empty, None)
    return theirs.batch([op])[0]


def test_a_thousand_random_operations_give_what_the_store_in_memory_gives(store):
    rng, theirs, done = random.Random(7), InMemoryStore(), 0
    while done < 1000:
        ops = [random_op(rng) for _ in range(rng.randint(10, 40))]
        listings = [op for op in ops if isinstance(op, ListNamespacesOp)]
        others = [op for op in ops if not isinstance(op, ListNamespacesOp)]
        assert [plain(each) for each in store.batch(listings)] == [listed(theirs, op) for op in listings]
        for op, ours, other in zip(others, store.batch(others), theirs.batch(others), strict=True):
            assert plain(ours) == plain(other), op
        done += len(ops)
    assert len(store.search((), limit=10_000)) > 20


def test_pages_together_are_the_whole(store):
    for key in KEYS:
        store.put(("docs",), key, {"text": key})
    pages = [item.key for offset in range(0, 6, 2) for item in store.search(("docs",), limit=2, offset=offset)]
    assert pages == sorted(KEYS)


def test_a_query_puts_what_it_means_first_and_finds_no_item_that_is_not_indexed(new_bank):
    store, text = NextMemStore(**new_bank, fields=["text"]), "the quick brown fox jumps over ."  # one chunk, filled
    store.put(("docs",), "fox", {"text": text})
    store.put(("docs",), "hidden", {"text": text}, index=False)
    store.put(("docs",), "other", {"text": "東京は日本の首都です。"})
    found = store.search(("docs",), query=text)
    assert found[0].key == "fox" and found[-1].key == "hidden"
    assert found[0].score >= found[1].score and found[-1].score is None


def test_what_is_put_again_keeps_when_it_was_made(store):
    store.put(("docs",), "k", {"text": "one"})
    first = store.get(("docs",), "k")
    store.put(("docs",), "k", {"text": "two"})
    second = store.get(("docs",), "k")
    assert second.value == {"text": "two"} and second.created_at == first.created_at < second.updated_at


def test_a_store_is_opened_again_with_what_it_holds(store, new_bank):
    store.put(("docs",), "k", {"text": "one"})
    with nextmem.Memory(new_bank["bank"]) as memory:
        assert NextMemStore(new_bank["bank"], memory=memory).get(("docs",), "k").value == {"text": "one"}


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (PutOp(("docs",), "k", {"text": {1, 2}}), "is not JSON"),
        (SearchOp(("docs",), filter={"n": {"$near": 1}}), "'\\$near' is no operator"),
    ],
)
def test_what_it_can_not_hold_or_ask_is_refused(store, operation, said):
    store.put(("docs",), "k", {"text": "one"})
    with pytest.raises(nextmem.Refusal, match=said):
        store.batch([operation])
    assert store.get(("docs",), "k").value == {"text": "one"}


def test_a_bank_that_is_no_store_is_refused(articles):
    with pytest.raises(nextmem.Refusal, match="is no store of LangGraph's: it has no column created_at"):
        NextMemStore(articles)
