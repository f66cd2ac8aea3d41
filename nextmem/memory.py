"""An agent's memory: a bank that is written as things happen, and read within a budget.

    memory = nextmem.Memory("bank")
    memory.remember("The ferry leaves pier 3 at 5:40.", doc_id="ferry")
    print(memory.context("when does the ferry leave", tokens=200).text)

Every other interface (MCP, HTTP, agent frameworks) is a thin layer over this class.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.refusal import Refusal
from nextmem.bank import Bank, open
from nextmem.context import AS, TEXT, Context, in_reading_order, text_within, that_fit
from nextmem.filters import Filter
from nextmem.hits import Hit, require_exact

if TYPE_CHECKING:
    from model.backbone import Backbone
    from pipeline.bank.forget import Forgot
    from pipeline.change.edit import Edited
    from pipeline.change.remember import Remembered

SHORTEST = 16  # tokens: how short the chunks are at least that a search for a budget of text reckons with


class ReadOnly(Refusal, PermissionError):  # noqa: N818  (it reads as what it says)
    """A change of a memory that may only be read."""


class Memory:
    """A bank as an agent uses it. A context manager closes the bank; threads may share it, as they may share a bank.

    `bank`: a `Bank`, or where one is. `by`: what searches go by (docs/search.md). `reader`: a codec folder whose reader
    reads the latents; without it, that of the bank's own codec. A memory that is `read_only` refuses every change.
    """

    def __init__(
        self,
        bank: Bank | str | os.PathLike[str],
        *,
        by: str = "latents",
        reader: str | os.PathLike[str] | None = None,
        read_only: bool = False,
    ):
        self.bank = bank if isinstance(bank, Bank) else open(bank)
        self.by, self.read_only = by, read_only
        self._reader_folder = reader
        self._reader: Backbone | None = None
        self._history = (-1, 0)  # a version, and the tokens that it holds

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Chunks."""
        return len(self.bank)

    def close(self) -> None:
        """Close the bank."""
        self._reader = None
        self.bank.close()

    def reader(self) -> Backbone:
        """The model for a prompt that holds a context's `embeds`: with a reader's adapter where there is one, else the
        plain backbone. Loaded once."""
        if self._reader is None:
            self._reader = self.bank.reader(self._reader_folder)
        return self._reader

    def remember(
        self,
        given: str | Iterable[str | Mapping[str, object]],
        *,
        doc_id: str | None = None,
        update: bool = False,
        **columns: object,
    ) -> Remembered:
        """Put a text in, or several texts or records, in one commit; the next search finds them.

        A record has `text`, perhaps `doc_id`, and values of the bank's own columns; `columns` are for all. A text
        without an id is named by its hash. What is there with the same text stays. `update`: a document of that id
        takes the new text. Raises Refusal for an empty text, a column that the bank has not, and an id whose text is
        another, without `update`.
        """
        self._require_writable()
        return self.bank.remember(given, doc_id=doc_id, update=update, **columns)

    def search(self, query: str, k: int = 5, *, filter: Filter | None = None) -> list[Hit]:
        """The k chunks that answer best, best first."""
        return self.bank.search(query, k, by=self.by, filter=filter)

    def recall(self, *, chunk_id: str | None = None, doc_id: str | None = None) -> str:
        """The exact text of a chunk or a document. Raises NotInBank, InexactRecall."""
        return self.bank.recall(chunk_id=chunk_id, doc_id=doc_id)

    def forget(self, doc_ids: Sequence[str] | None = None, *, filter: Filter | None = None) -> Forgot:
        """Take documents out for good, in one commit. Raises NotInBank for an id that the bank knows nothing of."""
        self._require_writable()
        return self.bank.forget(doc_ids, filter=filter)

    def edit(self, chunk_id: str, old: str, new: str) -> Edited:
        """Replace a text that stands once in a chunk, and encode it again. Raises NotInBank, Refusal."""
        self._require_writable()
        return self.bank.edit(chunk_id, old, new)

    def context(
        self, query: str, tokens: int = 1000, as_: str = TEXT, *, k: int | None = None, filter: Filter | None = None
    ) -> Context:
        """What fits of the chunks that answer best, as exact text or as latents, and what it costs.

        `tokens`: positions in the backbone's context, at most. `k`: chunks, at most. As latents each chunk takes K
        positions, and nothing is recalled; `reader()` is the model that reads them. An empty context says that nothing
        fitted, or that there is nothing.
        """
        if as_ not in AS:
            raise Refusal(f"a context as {as_!r}: wanted one of {', '.join(AS)}")
        if tokens < 1:
            raise Refusal(f"a context of {tokens} tokens: ask for at least one")
        each = self.bank.identity.num_latents
        found = self.search(query, k or max(1, tokens // (SHORTEST if as_ == TEXT else each)), filter=filter)
        lengths = self._lengths(found)
        if as_ == TEXT:
            return self._as_text(found, lengths, tokens)
        return self._as_latents(found, lengths, tokens, each)

    def history_tokens(self) -> int:
        """Tokens of all that the memory holds: what it costs to put the whole history into a prompt."""
        version, found = self._history
        if version != self.bank.version:
            version = self.bank.version
            found = sum(self.bank.to_arrow(["num_tokens"])["num_tokens"].to_pylist())
            self._history = (version, found)
        return found

    def _as_text(self, found: list[Hit], lengths: dict[str, int], budget: int) -> Context:
        chosen = that_fit(found, lengths, budget)
        rows = self.bank.recalled(chunk_ids=[hit.chunk_id for hit in chosen]) if chosen else iter(())
        texts = {row.chunk_id: require_exact(row).text for row in rows}
        ordered, text, used = text_within(chosen, texts, budget, self.bank.codec().count_tokens)
        return self._context(found, ordered, used, used, text=text)

    def _as_latents(self, found: list[Hit], lengths: dict[str, int], budget: int, each: int) -> Context:
        ordered = in_reading_order(that_fit(found, dict.fromkeys(lengths, each), budget))
        latents = self.bank.latents([hit.chunk_id for hit in ordered]) if ordered else None
        as_text = sum(lengths[hit.chunk_id] for hit in ordered)
        return self._context(found, ordered, each * len(ordered), as_text, latents=latents)

    def _context(self, found: list[Hit], ordered: list[Hit], tokens: int, as_text: int, **given: Any) -> Context:
        whole: dict[str, Any] = {"text": None, "latents": None} | given
        return Context(
            tuple(ordered),
            tokens=tokens,
            text_tokens=as_text,
            history_tokens=self.history_tokens(),
            left_out=len(found) - len(ordered),
            **whole,
        )

    def _lengths(self, hits: Sequence[Hit]) -> dict[str, int]:
        """Tokens of each chunk, by its id."""
        if not hits:
            return {}
        rows = self.bank.to_arrow(["chunk_id", "num_tokens"], filter={"chunk_id": [hit.chunk_id for hit in hits]})
        return dict(zip(rows["chunk_id"].to_pylist(), rows["num_tokens"].to_pylist(), strict=True))

    def _require_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(f"the memory {self.bank.path} is read-only: it can be searched and recalled, not changed")
