"""What a search finds, with its text when that is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextmem.bank import Bank
    from pipeline.bank.recall import Recalled
    from pipeline.bank.search import Hit as Nearest
    from pipeline.bank.search import Rank

SHOWN = ("chunk_id", "doc_id", "position", "source", "char_start", "char_end", "score")


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found. `text` is recalled when it is first asked for, with the search's other hits."""

    chunk_id: str
    doc_id: str
    position: int  # 0-based place in the document
    source: str
    char_start: int  # code points, half open
    char_end: int
    score: float  # cosine, -1 to 1; by words BM25; by both the sum of what either gave, 0 to 1
    by_latents: Rank | None  # the chunk's place and cosine; None where it was not looked for, or not found
    by_words: Rank | None  # its place, its BM25, and what each word of the query gave
    _texts: Texts = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The chunk's exact text. Raises InexactRecall, never anything silent."""
        return require_exact(self.recalled).text

    @property
    def recalled(self) -> Recalled:
        """The text with what is known of it: whether it is exact, and what share the latents carried."""
        return self._texts.row(self.chunk_id)

    def as_dict(self) -> dict:
        """Where the chunk is and its score, without its text."""
        return {name: getattr(self, name) for name in SHOWN}

    def explained(self) -> dict:
        """What either side found: place, score, each word's part, and what it gave to both; None for a side without."""
        return {name: rank and asdict(rank) for name, rank in (("latents", self.by_latents), ("words", self.by_words))}


class Texts:
    """The rows of one search, recalled together when the first of them is asked for."""

    def __init__(self, bank: Bank, chunk_ids: list[str]):
        self._bank, self._ids = bank, chunk_ids
        self._rows: dict[str, Recalled] | None = None

    def row(self, chunk_id: str) -> Recalled:
        """One of them."""
        if self._rows is None:
            self._rows = {row.chunk_id: row for row in self._bank.recalled(chunk_ids=self._ids)}
        return self._rows[chunk_id]


def hits_of(bank: Bank, found: list[Nearest]) -> list[Hit]:
    """What pipeline/bank/search.py found, as hits that can recall their texts."""
    texts = Texts(bank, [hit.chunk_id for hit in found])
    copied = (*SHOWN, "by_latents", "by_words")
    return [Hit(**{name: getattr(hit, name) for name in copied}, _texts=texts) for hit in found]


def require_exact(row: Recalled) -> Recalled:
    """The row itself. Raises InexactRecall where its text is not the one that was encoded."""
    from pipeline.bank.recall import InexactRecall

    if not row.exact:
        raise InexactRecall(row)
    return row
