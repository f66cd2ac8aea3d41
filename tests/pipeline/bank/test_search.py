"""Search is exact: the best k by cosine, ties by chunk id, whatever the batches."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from banks import IDENTITY, E, receipt, rows

from model.finite import NotFiniteError
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.search import nearest, nearest_of_each


@pytest.fixture
def bank(tmp_path):
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    commit(bank, [receipt(bank, f"u{n}", {f"d{n}-{m}": 5 for m in range(8)}, seed=n) for n in range(3)])
    return bank


def by_hand(bank, query_E):
    """Every chunk's (cosine, chunk_id), best first."""
    table = bank.dataset().to_table(columns=["chunk_id", "embedding"])
    cosines = np.array(table["embedding"].to_pylist()) @ (query_E / np.linalg.norm(query_E))
    return sorted(zip(-cosines, table["chunk_id"].to_pylist(), strict=True))


@pytest.mark.parametrize("batch_rows", [7, 8192])
@pytest.mark.parametrize("k", [1, 10, 119, 500])
def test_the_nearest_are_those_of_a_full_sort(bank, monkeypatch, batch_rows, k):
    monkeypatch.setattr("pipeline.bank.search.BATCH_ROWS", batch_rows)
    query = np.random.default_rng(5).normal(size=E)
    hits = nearest(bank, query, k)
    assert [hit.chunk_id for hit in hits] == [chunk_id for _, chunk_id in by_hand(bank, query)][:k]
    assert np.allclose([-hit.score for hit in hits], [score for score, _ in by_hand(bank, query)][:k])


def test_a_chunks_own_embedding_finds_it_with_a_cosine_of_one(bank):
    row = bank.dataset().to_table().slice(17, 1).to_pylist()[0]
    [hit] = nearest(bank, 3 * np.array(row["embedding"]), 1)
    assert (hit.chunk_id, hit.doc_id, hit.position) == (row["chunk_id"], row["doc_id"], row["position"])
    assert (hit.char_start, hit.char_end, hit.source) == (row["char_start"], row["char_end"], row["source"])
    assert hit.score == pytest.approx(1.0)


def test_a_row_whose_embedding_is_no_number_is_named_and_not_passed_over(bank):
    table = rows("u9", {"odd": 2})
    values = [table["embedding"][0].as_py(), [float("nan"), *table["embedding"][1].as_py()[1:]]]
    place = table.schema.get_field_index("embedding")
    table = table.set_column(place, table.schema.field(place), pa.array(values, pa.list_(pa.float32())))
    commit(bank, [Receipt("u9", tuple(bank.writer().write("u9", table)))])
    with pytest.raises(NotFiniteError, match=f"the embedding of chunk {table['chunk_id'][1]} is not finite"):
        nearest(bank, np.ones(E), 3)


@pytest.mark.parametrize("batch_rows", [3, 8192])
def test_ties_go_by_chunk_id(tmp_path, monkeypatch, batch_rows):
    monkeypatch.setattr("pipeline.bank.search.BATCH_ROWS", batch_rows)
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    table = rows("u1", {"a": 40})
    same = pa.array([table["embedding"][0].as_py()] * 40, pa.list_(pa.float32()))
    table = table.set_column(table.schema.get_field_index("embedding"), table.schema.field("embedding"), same)
    commit(bank, [Receipt("u1", tuple(bank.writer().write("u1", table)))])
    hits = nearest(bank, np.random.default_rng(1).normal(size=E), 5)
    assert [hit.chunk_id for hit in hits] == sorted(table["chunk_id"].to_pylist())[:5]
    assert len({hit.score for hit in hits}) == 1


def test_many_queries_find_what_each_finds_alone(bank):
    queries = np.random.default_rng(2).normal(size=(4, E))
    assert nearest_of_each(bank, queries, 3) == [nearest(bank, query, 3) for query in queries]


def test_a_filter_narrows_the_search(bank):
    hits = nearest(bank, np.ones(E), 10, filter=pc.field("doc_id") == "d1-3")
    assert len(hits) == 5 and {hit.doc_id for hit in hits} == {"d1-3"}


def test_a_query_of_another_width_is_refused(bank):
    with pytest.raises(
        ValueError, match=r"a query of shape \(9,\) for embeddings of 8 values: embed it with the bank's"
    ):
        nearest(bank, np.ones(9), 1)


@pytest.mark.parametrize("query", [np.zeros(E), np.full(E, np.nan)])
def test_a_query_that_points_nowhere_is_refused(bank, query):
    with pytest.raises(ValueError, match="points nowhere"):
        nearest(bank, query, 1)


def test_no_hits_are_not_asked_for(bank):
    with pytest.raises(ValueError, match="k is 0: ask for at least one hit"):
        nearest(bank, np.ones(E), 0)


def test_an_empty_bank_has_no_hits(tmp_path):
    assert nearest(Bank.create(tmp_path / "bank", IDENTITY), np.ones(E), 3) == []
