"""What becomes of a batch of requests of one bank: one embedding pass for all queries, one decoding for all texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from model.refusal import Missing, Refusal
from nextmem.bank import open
from nextmem.hits import Hit, require_exact
from nextmem.memory import Memory
from nextmem.serving.asks import Ask, Context, Edit, Forget, Latents, Recall, Remember, Search
from nextmem.serving.tensors import as_safetensors
from pipeline.bank.lookup import NotInBank

if TYPE_CHECKING:
    import numpy as np

    from pipeline.bank.recall import Recalled

MOST_CHUNKS = 2000  # of a document that one request may recall: about a megabyte of text


@dataclass(slots=True)
class Found:
    """What one request of a batch needs: the chunks whose texts it wants, then its answer or its error."""

    ask: Ask
    hits: list[Hit] = field(default_factory=list)
    chunk_ids: list[str] = field(default_factory=list)
    answer: Any = None
    error: Exception | None = None


class Desk:
    """Answers batches for one memory, in one thread. Each request gets its own error; none spoils its neighbours."""

    def __init__(self, memory: Memory):
        self.memory = memory

    def answer(self, asks: Sequence[Ask]) -> list[Any]:
        """A dict, or bytes of safetensors, or the error, for each request. All read one version, the newest."""
        self._stand_on_the_newest()
        found = [Found(ask) for ask in asks]
        self._each(self._write, (f for f in found if isinstance(f.ask, Remember | Forget | Edit)))
        self._search([f for f in found if isinstance(f.ask, Search)])
        self._each(self._locate, (f for f in found if isinstance(f.ask, Recall)))
        texts = self._texts({chunk_id for f in found if f.error is None for chunk_id in f.chunk_ids})
        self._each(lambda f: self._finish(f, texts), (f for f in found if isinstance(f.ask, Search | Recall)))
        self._each(self._alone, (f for f in found if isinstance(f.ask, Context | Latents)))
        return [f.answer if f.error is None else f.error for f in found]

    def _stand_on_the_newest(self) -> None:
        try:
            self.memory.bank.reload()
        except Exception as error:
            raise self._explained(error) from error

    def _each(self, do: Callable[[Found], object], found: Iterable[Found]) -> None:
        for f in found:
            if f.error is None:
                try:
                    do(f)
                except Exception as error:
                    f.error = self._explained(error)

    def _explained(self, error: Exception) -> Exception:
        """A bank that has gone shows in errors of many kinds: that it has gone is what counts."""
        if isinstance(error, Refusal):
            return error
        try:
            open(self.memory.bank.path).close()
        except Missing:
            return Missing(f"the bank {self.memory.bank.path} has been removed")
        return error

    def _write(self, f: Found) -> None:
        match f.ask:
            case Remember(text=text, doc_id=doc_id, update=update, columns=columns):
                f.answer = asdict(self.memory.remember(text, doc_id=doc_id, update=update, **columns))
            case Forget(doc_ids=doc_ids):
                f.answer = asdict(self.memory.forget(doc_ids))
            case Edit(chunk_id=chunk_id, old=old, new=new):
                f.answer = asdict(self.memory.edit(chunk_id, old, new))

    def _search(self, found: list[Found]) -> None:
        """Queries are embedded together; where one of them can't be, each is for itself."""
        queries = [f.ask.query for f in found]  # type: ignore[attr-defined]
        embedded: Sequence[np.ndarray | None] = [None] * len(found)
        if self.memory.by != "words" and len(found) > 1:
            try:
                embedded = list(self.memory.bank.codec().embed_each(queries))
            except ValueError:
                embedded = [None] * len(found)
        for f, embedding in zip(found, embedded, strict=True):
            self._each(partial(self._find, embedding), [f])

    def _find(self, embedding: np.ndarray | None, f: Found) -> None:
        ask, bank = f.ask, self.memory.bank
        assert isinstance(ask, Search)
        f.hits = bank.search(ask.query, ask.k, by=self.memory.by, filter=ask.filter, embedding=embedding)
        f.chunk_ids = [hit.chunk_id for hit in f.hits] if ask.text else []

    def _locate(self, f: Found) -> None:
        ask = f.ask
        assert isinstance(ask, Recall)
        named = {"chunk_id": ask.chunk_id} if ask.chunk_id else {"doc_id": ask.doc_id}
        rows = self.memory.bank.to_arrow(["chunk_id", "position"], filter=named).sort_by("position")
        f.chunk_ids = rows["chunk_id"].to_pylist()
        if not f.chunk_ids:
            ((name, wanted),) = named.items()
            raise NotInBank(f"the bank {self.memory.bank.path} holds no {name} {wanted!r}")
        if len(f.chunk_ids) > MOST_CHUNKS:
            raise Refusal(f"the document {ask.doc_id!r} has {len(f.chunk_ids):,} chunks: recall them by chunk_id")

    def _texts(self, chunk_ids: set[str]) -> dict[str, Recalled]:
        if not chunk_ids:
            return {}
        return {row.chunk_id: row for row in self.memory.bank.recalled(chunk_ids=sorted(chunk_ids))}

    @staticmethod
    def _finish(f: Found, texts: dict[str, Recalled]) -> None:
        rows = [require_exact(texts[chunk_id]) for chunk_id in f.chunk_ids]
        if isinstance(f.ask, Recall):
            f.answer = {"text": "".join(row.text for row in rows), "chunk_ids": f.chunk_ids}
            return
        known = {row.chunk_id: {"text": row.text, "carried": row.carried} for row in rows}
        f.answer = {"hits": [hit.as_dict() | known.get(hit.chunk_id, {}) for hit in f.hits]}

    def _alone(self, f: Found) -> None:
        if isinstance(f.ask, Latents):
            latents = self.memory.bank.latents(f.ask.chunk_ids)
            f.answer = as_safetensors(latents, f.ask.as_)
            return
        ask = f.ask
        assert isinstance(ask, Context)
        context = self.memory.context(ask.query, ask.tokens, k=ask.k, filter=ask.filter)
        f.answer = {
            "text": context.text,
            "hits": [hit.as_dict() for hit in context.hits],
            "history_tokens": context.history_tokens,
            "left_out": context.left_out,
            **context.cost,
        }
