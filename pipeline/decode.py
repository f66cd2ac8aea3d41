"""Memory rows back to text. Exact, or the caller sees that it is not: silent text does not exist here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from model.codec import Codec, Recollection, StoredMemory, batches
from model.tokens import chunk_id, text_hash
from pipeline import schema

WINDOW = 512  # rows sorted by length together; what is recalled comes out in the order it went in
BATCH = {"cpu": 32, "cuda": 128}
COLUMNS = [
    schema.CHUNK_ID,
    schema.DOC_ID,
    schema.POSITION,
    schema.CHAR_START,
    schema.CHAR_END,
    schema.NUM_TOKENS,
    schema.CODES,
    schema.SCALES,
    schema.FIDELITY,
    schema.PATCH,
    schema.TEXT_HASH,
    schema.TEXT,
]


@dataclass(frozen=True, slots=True)
class Recalled:
    """One row's text. `carried`: share of its positions that the latents decide, without the patch or kept text."""

    chunk_id: str
    doc_id: str
    position: int
    char_start: int
    char_end: int
    text: str
    exact: bool  # the text's hash is the one that was stored
    fidelity: float | None
    carried: float | None  # None for a row that was not verified


class InexactRecall(ValueError):  # noqa: N818  (it reads as what it says)
    """A row whose recalled text is not the one that was encoded."""

    def __init__(self, row: Recalled):
        why = (
            "it was encoded with --no-verify, so it has no patch"
            if row.carried is None
            else "the row is damaged, or this processor rounds differently from the one that verified it"
        )
        super().__init__(
            f"chunk {row.chunk_id} (document {row.doc_id!r}, position {row.position}) does not recall exactly: {why}. "
            "--no-patch shows what its latents give; encoding the document again mends it."
        )


def recall(
    rows: Iterable[pa.RecordBatch], codec: Codec, *, patched: bool = True, batch_size: int | None = None
) -> Iterator[Recalled]:
    """Texts of rows (with COLUMNS at least), in their order. Streaming: WINDOW rows at a time.

    A row that cannot be recalled exactly comes with `exact=False`; raise InexactRecall of it, or say so otherwise.
    With `patched=False` what the latents alone give, exact or not.
    """
    size = batch_size or BATCH[codec.backbone.device.type]
    for window in _windows(rows):
        yield from _recall_window(window, codec, patched, size)


def _recall_window(rows: list[dict], codec: Codec, patched: bool, size: int) -> Iterator[Recalled]:
    kept = {i for i, row in enumerate(rows) if _is_kept(row, codec)}
    latent = [i for i in range(len(rows)) if i not in kept]
    texts: dict[int, tuple[str, Recollection | None]] = {i: (rows[i][schema.TEXT], None) for i in kept}
    for group in batches([rows[i][schema.NUM_TOKENS] for i in latent], size):
        where = [latent[i] for i in group]
        for i, recollection in zip(
            where, codec.recall([_stored(rows[i]) for i in where], patched=patched), strict=True
        ):
            texts[i] = codec.tokenizer.decode(recollection.token_ids), recollection
    for i, row in enumerate(rows):
        text, recollection = texts[i]
        yield Recalled(
            *(row[name] for name in COLUMNS[:5]),
            text=text,
            exact=text_hash(text) == row[schema.TEXT_HASH],
            fidelity=row[schema.FIDELITY],
            carried=recollection.carried if recollection else 0.0,
        )


def _is_kept(row: dict, codec: Codec) -> bool:
    """A lossy chunk's text stands in the row, because no token ids could give it back."""
    return (
        row[schema.TEXT] is not None and row[schema.PATCH] is not None and codec.patches.keeps_text(row[schema.PATCH])
    )


def _stored(row: dict) -> StoredMemory:
    return StoredMemory(
        codes=row[schema.CODES],
        scales=row[schema.SCALES],
        num_tokens=row[schema.NUM_TOKENS],
        patch=row[schema.PATCH],
        matches=partial(_matches, row[schema.DOC_ID], row[schema.POSITION], row[schema.CHUNK_ID]),
    )


def _matches(doc_id: str, position: int, wanted: str, token_ids: np.ndarray) -> bool:
    return chunk_id(doc_id, position, token_ids) == wanted


def _windows(batches_: Iterable[pa.RecordBatch]) -> Iterator[list[dict]]:
    window: list[dict] = []
    for batch in batches_:
        for start in range(0, batch.num_rows, WINDOW):
            window += batch.slice(start, WINDOW).select(COLUMNS).to_pylist()
            while len(window) >= WINDOW:
                yield window[:WINDOW]
                window = window[WINDOW:]
    if window:
        yield window
