"""LangChain's own suites for vector stores, retrievers and embeddings; and what is ours beyond them."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from works import ARTICLES

import nextmem
from nextmem.bridges.langchain import NextMemEmbeddings, NextMemRetriever, NextMemVectorStore


class TestVectorStore(VectorStoreIntegrationTests):
    """The embeddings that the suite offers are not taken: a bank has its codec's."""

    @pytest.fixture
    def vectorstore(self, new_bank):
        store = NextMemVectorStore.create(**new_bank)
        yield store
        store.memory.close()


@pytest.fixture(scope="module", params=[None])
def opened(request, articles):
    with nextmem.Memory(articles) as memory:
        yield memory


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memory(self, opened):
        type(self).memory = opened

    @property
    def retriever_constructor(self):
        return NextMemRetriever

    @property
    def retriever_constructor_params(self):
        return {"memory": self.memory}

    @property
    def retriever_query_example(self):
        return "the quick brown fox"


class TestEmbeddings(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _memory(self, opened):
        type(self).codec = opened.bank.codec()

    @property
    def embeddings_class(self):
        return NextMemEmbeddings

    @property
    def embedding_model_params(self):
        return {"codec": self.codec}


@pytest.fixture
def store(new_bank):
    made = NextMemVectorStore.create(**new_bank, columns={"topic": str})
    made.add_texts(
        ["The ferry leaves pier 3 at dawn. " * 4, "Dough rises because yeast makes gas."],
        [{"topic": "harbour", "tags": ["a", "b"]}, {"topic": "food"}],
        ids=["ferry", "dough"],
    )
    yield made
    made.memory.close()


def test_metadata_comes_back_whole_and_its_columns_can_be_filtered_by(store):
    (found,) = store.similarity_search("dawn", k=5, filter={"topic": "harbour"})
    assert found == Document(
        id="ferry",
        page_content="The ferry leaves pier 3 at dawn. " * 4,
        metadata={"topic": "harbour", "tags": ["a", "b"]},
    )
    with pytest.raises(nextmem.Refusal, match="no column 'tags' to filter by"):
        store.similarity_search("dawn", filter={"tags": "a"})


def test_a_document_of_many_chunks_is_one_hit(store):
    assert [found.id for found in store.similarity_search("The ferry leaves pier 3", k=2)] == ["ferry", "dough"]


def test_a_vector_of_its_own_embeddings_finds_the_same(store):
    query = "The ferry leaves pier 3"
    by_vector = store.similarity_search_by_vector(store.embeddings.embed_query(query), k=2)
    assert by_vector == store.similarity_search(query, k=2)
    apart = store.max_marginal_relevance_search(query, k=2, lambda_mult=0.1)
    assert {found.id for found in apart} == {"ferry", "dough"}


def test_foreign_embeddings_are_refused(tmp_path):
    with pytest.raises(nextmem.Refusal, match="searched by its codec's embeddings"):
        NextMemVectorStore.from_texts(["x"], TestVectorStore.get_embeddings(), bank=tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_a_retriever_gives_exact_chunks_with_their_places(opened):
    best, *_ = NextMemRetriever(memory=opened, k=2).invoke(ARTICLES["fox"][:32])
    assert best.page_content == ARTICLES["fox"][:32]
    assert (best.metadata["doc_id"], best.metadata["char_start"]) == ("fox", 0)
