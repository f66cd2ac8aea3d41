"""A memory as LangChain knows one: a VectorStore, a Retriever and Embeddings.

store = NextMemVectorStore.create("bank", columns={"topic": str})
store.add_texts(["The ferry leaves pier 3 at 5:40."], [{"topic": "harbour"}])
store.similarity_search("when does the ferry leave", k=1, filter={"topic": "harbour"})
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from pydantic import ConfigDict

from model.refusal import Refusal
from nextmem.bridges.documents import Given, new_memory, put, remove, stored
from nextmem.codec import Codec
from nextmem.creating import Kind
from nextmem.filters import Filter
from nextmem.hits import Hit
from nextmem.memory import Memory


class NextMemEmbeddings(Embeddings):
    """The embeddings of a codec: of a bank's own (`memory.bank.codec()`), or of `Codec.load()`."""

    def __init__(self, codec: Codec):
        self.codec = codec

    def embed_query(self, text: str) -> list[float]:
        """As a search embeds a query."""
        return self.codec.embed(text).tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As a bank embeds a text's chunks; of several chunks, their mean. Raises Refusal for an empty text."""
        return [_mean(memorised.rows["embedding"].to_pylist()) for memorised in self.codec.encode(texts, verify=False)]


class NextMemVectorStore(VectorStore):
    """A bank as a store of documents, whole and exact: a search gives the documents whose chunks answer best.

    Embeddings are the bank's own codec's. `filter` is what `bank.search` takes: a dict of column to value or list of
    values, or a pyarrow expression. Metadata without a column of its name is kept, and can't be filtered by.
    """

    def __init__(self, memory: Memory):
        self.memory = memory

    @classmethod
    def create(
        cls, bank: str | os.PathLike[str], *, columns: Mapping[str, Kind] | None = None, **how: Any
    ) -> NextMemVectorStore:
        """A store in a new bank. `columns`: the metadata to filter by, with their types."""
        return cls(new_memory(bank, columns=columns, **how))

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict] | None = None,
        *,
        ids: list[str] | None = None,
        bank: str | os.PathLike[str] | None = None,
        **how: Any,
    ) -> NextMemVectorStore:
        """A new store at `bank` with these texts. The codec embeds; `embedding` must be its own, or None."""
        if bank is None:
            raise Refusal("from_texts needs bank=, the folder of the new bank")
        if embedding is not None and not isinstance(embedding, NextMemEmbeddings):
            raise Refusal("a bank is searched by its codec's embeddings: give NextMemEmbeddings, or None")
        store = cls.create(bank, **how)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> NextMemEmbeddings:
        return NextMemEmbeddings(self.memory.bank.codec())

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Put texts in, in one commit; a text whose id is there replaces that one's. The ids, made where not given."""
        given = list(texts)
        found = [each or uuid.uuid4().hex for each in (ids or [None] * len(given))]
        metadata = metadatas or [{} for _ in given]
        put(self.memory, [Given(*each) for each in zip(found, given, metadata, strict=True)])
        return found

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Forget these documents, or all. One that is not there is no error."""
        remove(self.memory, ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(each) for each in stored(self.memory, ids)]

    def similarity_search(self, query: str, k: int = 4, *, filter: Filter | None = None, **_: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **_: Any
    ) -> list[tuple[Document, float]]:
        """Documents with their best chunk's score, the best first: a cosine where the memory goes by latents."""
        return self._documents(self._best(query, k, filter))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **_: Any
    ) -> list[Document]:
        """By an embedding that this store's `embeddings` made."""
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, filter=filter)]

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **_: Any
    ) -> list[tuple[Document, float]]:
        """The same, with each document's cosine."""
        return self._documents(self._best("", k, filter, embedding))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **_: Any,
    ) -> list[Document]:
        return self.max_marginal_relevance_search_by_vector(
            self.embeddings.embed_query(query), k, fetch_k, lambda_mult, filter=filter
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **_: Any,
    ) -> list[Document]:
        """Documents that are near the query and unlike one another, by their best chunks' embeddings."""
        best = self._best("", fetch_k, filter, embedding)
        if not best:
            return []
        rows = self.memory.bank.to_arrow(["chunk_id", "embedding"], filter={"chunk_id": [hit.chunk_id for hit in best]})
        vectors = dict(zip(rows["chunk_id"].to_pylist(), rows["embedding"].to_pylist(), strict=True))
        chosen = maximal_marginal_relevance(
            np.array(embedding, np.float32), [vectors[hit.chunk_id] for hit in best], lambda_mult, k
        )
        return [document for document, _ in self._documents([best[place] for place in chosen])]

    def _select_relevance_score_fn(self):
        """A cosine of -1 to 1 as 0 to 1."""
        return lambda cosine: (1 + cosine) / 2

    def _best(self, query: str, k: int, filter: Filter | None, embedding: list[float] | None = None) -> list[Hit]:
        """The best chunk of each of the k best documents. The search goes deeper while chunks share documents."""
        bank, deep = self.memory.bank, k
        by = self.memory.by if embedding is None else "latents"
        vector = None if embedding is None else np.array(embedding, np.float32)
        while True:
            hits = bank.search(query, deep, by=by, filter=filter, embedding=vector)
            best: dict[str, Hit] = {}
            for hit in hits:
                best.setdefault(hit.doc_id, hit)
            if len(best) >= k or len(hits) < deep:
                return list(best.values())[:k]
            deep *= 4

    def _documents(self, hits: Sequence[Hit]) -> list[tuple[Document, float]]:
        found = {each.doc_id: each for each in stored(self.memory, [hit.doc_id for hit in hits])}
        return [(_document(found[hit.doc_id]), hit.score) for hit in hits]


class NextMemRetriever(BaseRetriever):
    """The chunks of a memory that answer best, each word for word, with its place in its document as metadata."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    memory: Memory
    k: int = 4
    filter: Any = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, k: int | None = None
    ) -> list[Document]:
        hits = self.memory.search(query, k or self.k, filter=self.filter)
        return [Document(id=hit.chunk_id, page_content=hit.text, metadata=hit.as_dict()) for hit in hits]


def _document(given: Given) -> Document:
    return Document(id=given.doc_id, page_content=given.text, metadata=dict(given.metadata))


def _mean(rows_NE: list[list[float]]) -> list[float]:
    if not rows_NE:
        raise Refusal("an empty text has no embedding")
    return np.mean(np.array(rows_NE, np.float32), axis=0).tolist()
