"""The interface between what is measured and the tasks: a system says what it can do, a task asks nothing else.

A system is any object with the attributes of `System`, and with the methods that it names in `can`:

| in `can` | method | gives |
|---|---|---|
| encode | `encode(texts, before)` | a Memory a text |
| decode | `decode(memories)` | the texts that the memories alone carry, greedily, without a patch |
| recall | `recall(memories)` | the exact texts, with whatever is stored beside the memories |
| embed | `embed(texts, query=...)` | vectors for search by cosine |
| rank | `rank(queries, passages)` | scores, of what searches without vectors |
| bank | `bank(corpus, folder)` | a memory bank of a corpus that is too large to embed here |
| answer | `answer(memories, questions, reader)` | what a reader answers that has the memories in the text's place |

A text has at most 128 tokens of the backbone, but in `embed` and `rank` (any), and in the task `length` (up to 512),
which asks only those that say they `encode long`.
A caller keeps batches small (`batch` texts at most), and caches what comes back under `identity`: memories, drafts and
vectors. So a method must depend on its arguments and on what `identity` covers alone.

Which systems there are stands in jobs/evaluate/opened.py, a dict: a name to a function that opens it.
Shapes: K latents, D hidden width, C vectors of one text, E embedding width, Q queries, P passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.evaluate.reader import Reader
    from jobs.evaluate.sets import Text
    from pipeline.bank.bank import Bank

ABILITIES = ("encode", "encode long", "decode", "recall", "embed", "rank", "bank", "answer")


@dataclass(frozen=True, slots=True)
class Memory:
    """What one text becomes. `parts` is the system's own business and is kept on disk as it is, but for one name:
    `latents`, float [K, D], is what the decoder reads, if there is such a thing. The analyses change it (noise, fewer
    of them, of a changed text) and hand the memory back to `decode`.
    """

    parts: dict[str, np.ndarray]
    tokens: int  # of the text; a draft may run on for 8 more
    stored_bytes: int  # what a bank would store of it, without the patch and without an embedding
    patch_bytes: int | None = None  # what exact recall takes beside it; None: the system has no such thing
    fidelity: float | None = None  # share of positions that greedy decoding gets right, the text before them given
    work: float = 1.0  # what making it took, in encodes of the codec (forwards and backwards counted alike)


@dataclass(frozen=True, slots=True)
class Question:
    """What the reader is asked: text before and after the place of the memory, and what it should say then."""

    before: str
    after: str
    answer: str  # the reference whose tokens are scored


@dataclass(frozen=True, slots=True)
class Answer:
    """What the reader said."""

    nats: float  # of all the reference's tokens, teacher-forced; lower is better
    tokens: int  # of the reference
    text: str  # greedily, up to the line's end


class System(Protocol):
    """See the file's docstring for what each method gives. Only those named in `can` are ever called."""

    name: str  # as the person named it: a row's title, and its key in results.json
    kind: str  # codec, text, bm25, embedder, icae, dyprag, lora
    identity: str  # a hash or name of all that decides what the methods give
    can: frozenset[str]  # of ABILITIES
    base: System | None  # whose memories `encode` starts from (NF4 and refining start from the dense ones); else None
    about: dict[str, object]  # for the report: settings, budget, sizes; JSON
    batch: int  # texts at once, at most

    def encode(self, texts: Sequence[str], before: Sequence[Memory] | None = None) -> list[Memory]:
        """One memory a text, in order. `before`: what `base` made of the same texts, where there is a base."""

    def decode(self, memories: Sequence[Memory]) -> list[str]:
        """Texts as free-running greedy decoding gives them, at most 8 tokens longer than the text was."""

    def recall(self, memories: Sequence[Memory]) -> list[str]:
        """Exact texts."""

    def embed(self, texts: Sequence[str], *, query: bool = False) -> list[np.ndarray]:
        """float32 [C, E] a text, L2-normalised: C is 1 but for passages of several chunks. The best of C counts."""

    def rank(self, queries: Sequence[str], passages: Sequence[str]) -> np.ndarray:
        """float32 [Q, P]: higher is nearer."""

    def bank(self, corpus: Sequence[Text], folder: Path) -> Bank:
        """A bank in `folder` whose documents are the passages, made by an encode job, or gone on with."""

    def answer(self, memories: Sequence[Memory], questions: Sequence[Question], reader: Reader) -> list[Answer]:
        """One answer a question; the i-th memory stands in the i-th prompt."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open systems; each opener takes what it needs of it."""

    backbone: str | None = None  # None: the embedded one
    precision: str = "auto"
    refine: int = 0  # steps; codecs get one more row where it is not 0
    models: dict[str, str] = field(default_factory=dict)  # an embedder's name to its folder or hub id
