"""A codec from Python: texts to memories and back, without a bank.

Shapes: N chunks, K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline import schema

if TYPE_CHECKING:
    from model.codec import Codec as ModelCodec
    from nextmem.latents import Latents


@dataclass(frozen=True, slots=True)
class Memorised:
    """What one text became: memory rows, one a chunk, as a bank stores them (pipeline/schema.py)."""

    rows: pa.Table
    _codec: ModelCodec = field(repr=False, compare=False)

    def __len__(self) -> int:
        """Chunks."""
        return self.rows.num_rows

    @property
    def fidelity(self) -> float | None:
        """Share of the text's positions that greedy decoding gets right. None if not verified, or without chunks."""
        shares, lengths = self.rows[schema.FIDELITY].to_pylist(), self.rows[schema.NUM_TOKENS].to_pylist()
        if not lengths or None in shares:
            return None
        return float(np.average(shares, weights=lengths))

    @property
    def latents(self) -> Latents:
        """The memory's latents as float32 [N, K, D], and as rows for `inputs_embeds`."""
        from nextmem.latents import latents_of

        return latents_of(self.rows, self._codec)


class Codec:
    """Encoder and decoder over one frozen backbone. Made by `Codec.load`; threads wait for one another."""

    def __init__(self, codec: ModelCodec, lock: threading.RLock | None = None):
        self._codec, self._lock = codec, lock or threading.RLock()

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str] | None = None, *, backbone: str | None = None, precision: str = "auto"
    ) -> Codec:
        """The codec in a folder; without one, the codec that ships for the backbone (smollm2-135m).

        `precision`: fp32, bf16, or auto: what this machine multiplies fastest. Raises FileNotFoundError, or ValueError
        for a folder that holds no codec or one of another backbone.
        """
        from model.backbone import default_device
        from model.codec_io import load_codec
        from model.config import VerifyConfig
        from model.default_codec import default_codec_folder
        from model.embedded import EMBEDDED
        from model.precision import default_precision

        verifying = VerifyConfig.of(default_precision(default_device()) if precision == "auto" else precision)
        if folder is None:
            folder = default_codec_folder(backbone or EMBEDDED)
        return cls(load_codec(os.fspath(folder), backbone_name=backbone, verifying=verifying))

    @property
    def identity(self) -> str:
        """A hash of all that decides what a latent means. Codecs of one identity read each other's banks."""
        return self._codec.identity

    def encode(self, texts: Sequence[str], *, verify: bool = True) -> list[Memorised]:
        """One memory a text, in order. A text is cut into chunks; an empty one gives a memory without rows.

        `verify=False` is faster and leaves out the patch, so that decoding is exact only by luck.
        """
        from pipeline.corpus.documents import Document, document_hash
        from pipeline.encode.chunk import chunk_documents
        from pipeline.encode.memorise import Memoriser

        if isinstance(texts, str):
            raise TypeError("give a list of texts, not one text")
        documents = [Document(str(place), text, document_hash(text), "") for place, text in enumerate(texts)]
        limit = self._codec.config.chunk_tokens
        chunks = chunk_documents(documents, self._codec.tokenizer, chunk_tokens=limit)
        with self._lock:
            rows = Memoriser(self._codec, verify=verify).memorise(chunks, "")
        of_text = np.array([int(doc_id) for doc_id in rows[schema.DOC_ID].to_pylist()], dtype=np.int64)
        ends = np.searchsorted(of_text, np.arange(len(texts) + 1))
        return [Memorised(rows.slice(a, b - a), self._codec) for a, b in pairwise(ends.tolist())]

    def decode(self, memories: Sequence[Memorised], *, patched: bool = True) -> list[str]:
        """The texts, exactly; with `patched=False`, what the latents alone give.

        Raises InexactRecall, which names the chunk, where an exact text cannot be given.
        """
        with self._lock:
            return [self._text(memory, patched) for memory in memories]

    def embed(self, query: str) -> np.ndarray:
        """float32 [E], as `search` embeds a query: its cosine with a bank's embeddings finds the nearest chunks."""
        return self.embed_each([query])[0]

    def embed_each(self, queries: Sequence[str]) -> np.ndarray:
        """float32 [Q, E]: many queries in one batch, which takes less time than one by one."""
        from pipeline.bank.search import embed_queries

        with self._lock:
            return embed_queries(self._codec, queries)

    def count_tokens(self, text: str) -> int:
        """Positions that a text takes in the backbone's context."""
        return len(self._codec.tokenizer.encode(text))

    def _text(self, memory: Memorised, patched: bool) -> str:
        from nextmem.hits import require_exact
        from pipeline.bank.recall import recall

        rows = recall(memory.rows.to_batches(), self._codec, patched=patched)
        return "".join((require_exact(row) if patched else row).text for row in rows)
