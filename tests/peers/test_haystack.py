"""Haystack's own suite for document stores; and what is ours beyond it."""

from __future__ import annotations

import pytest
from haystack import Document, Pipeline
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.errors import FilterError
from haystack.testing.document_store import DocumentStoreBaseTests

from nextmem.bridges.haystack import NextMemDocumentStore, NextMemRetriever

COLUMNS = {"name": str, "page": str, "chapter": str, "number": int, "date": str, "no_embedding": bool}


@pytest.fixture
def document_store(new_bank):
    store = NextMemDocumentStore(**new_bank, columns=COLUMNS)
    yield store
    store.memory.close()


class TestDocumentStore(DocumentStoreBaseTests):
    """Documents are compared without the embeddings that they brought, and in any order: a bank keeps neither."""

    @staticmethod
    def assert_documents_are_equal(received, expected):
        def plain(documents):
            return sorted((each.id, each.content, sorted(each.meta.items(), key=str)) for each in documents)

        assert plain(received) == plain(expected)

    @pytest.fixture
    def document_store(self, document_store):  # the suite's own class has one that raises
        return document_store

    def test_write_documents(self, document_store):
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


def test_a_field_without_a_column_is_named(document_store):
    with pytest.raises(FilterError, match=r"no column for 'meta.author', so it can't be filtered by; it has .*chapter"):
        document_store.filter_documents({"field": "meta.author", "operator": "==", "value": "x"})


def test_a_pipeline_retrieves_exact_pieces_with_their_documents_meta(document_store):
    document_store.write_documents(
        [
            Document(id="ferry", content="The ferry leaves pier 3.", meta={"name": "harbour", "seats": [1, 2]}),
            Document(id="dough", content="Dough rises because of yeast.", meta={"name": "food"}),
        ]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", NextMemRetriever(document_store))
    filters = {"field": "meta.name", "operator": "==", "value": "harbour"}
    asked = {"retriever": {"query": "The ferry leaves pier 3.", "top_k": 5, "filters": filters}}
    (found,) = pipeline.run(asked)["retriever"]["documents"]
    assert found.content == "The ferry leaves pier 3." and found.score == pytest.approx(1, abs=0.05)
    assert found.meta == {"name": "harbour", "seats": [1, 2], "source_id": "ferry", "split_id": 0}


def test_a_store_is_written_down_and_opened_again(document_store):
    document_store.write_documents([Document(id="a", content="text")])
    again = NextMemDocumentStore.from_dict(document_store.to_dict())
    assert again.count_documents() == 1
    again.memory.close()
