"""Memory rows back to text. Exact, or the caller sees that it is not: silent text does not exist here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch

from model.batches import batches
from model.codec import Codec
from model.memory import StoredMemory
from model.patch import RAW
from model.refusal import Refusal
from model.tokens import chunk_id, text_hash
from pipeline import schema

WINDOW = 4  # batches of rows sorted by length together; what is recalled comes out in the order it went in
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


class InexactRecall(Refusal):
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
    rows: Iterable[pa.RecordBatch],
    codec: Codec,
    *,
    patched: bool = True,
    k: int | None = None,
    batch_size: int | None = None,
    on_decoded: Callable[[int], object] = lambda rows: None,
) -> Iterator[Recalled]:
    """Texts of rows (with COLUMNS at least), in their order. Streaming: WINDOW batches at a time, the first one alone.

    A row that cannot be recalled exactly comes with `exact=False`; raise InexactRecall of it, or say so otherwise.
    With `patched=False` what the latents alone give, exact or not; with `k` the first k of them. `on_decoded` is told
    of so many rows more as each batch is decoded, long before a window of rows comes out.
    """
    size = batch_size or BATCH[codec.backbone.device.type]
    for window in _windows(rows, size):
        yield from _recall_window(window, codec, patched, k, size, on_decoded)


def stored_latents(rows: pa.Table, codec: Codec) -> torch.Tensor:
    """float32 [N, K, D]: the latents of memory rows, dequantised, on the codec's device."""
    return codec.stored_latents([stored(row) for row in rows.to_pylist()])


def _recall_window(
    rows: list[dict], codec: Codec, patched: bool, k: int | None, size: int, on_decoded: Callable[[int], object]
) -> Iterator[Recalled]:
    found = {i: text for i, row in enumerate(rows) if (text := _without_latents(row, codec, patched)) is not None}
    latent = [i for i in range(len(rows)) if i not in found]
    on_decoded(len(found))
    for group in batches([rows[i][schema.NUM_TOKENS] for i in latent], size):
        where = [latent[i] for i in group]
        memories = codec.recall([stored(rows[i]) for i in where], patched=patched, k=k)
        for i, memory in zip(where, memories, strict=True):
            found[i] = codec.tokenizer.decode(memory.token_ids), memory.carried
        on_decoded(len(group))
    for i, row in enumerate(rows):
        text, carried = found[i]
        yield Recalled(
            *(row[name] for name in COLUMNS[:5]),
            text=text,
            exact=text_hash(text) == row[schema.TEXT_HASH],
            fidelity=row[schema.FIDELITY],
            carried=carried,
        )


def _without_latents(row: dict, codec: Codec, patched: bool) -> tuple[str, float | None] | None:
    """(text, carried) of a row that is not decoded: its text stands in it, or it is damaged. None for any other."""
    text, patch = row[schema.TEXT], row[schema.PATCH]
    if text is not None and patch is None and patched:
        return text, None
    if text is not None and patch is not None and codec.patches.keeps_text(patch):
        return text, 0.0  # no token ids could give it back
    return ("", 0.0) if is_damaged(row, codec) else None


def is_damaged(row: dict, codec: Codec) -> bool:
    """Whether decoding the row would fail, and take the rows it is decoded with along."""
    if (len(row[schema.CODES]), len(row[schema.SCALES])) != codec.quantiser.sizes:
        return True
    if not np.isfinite(np.frombuffer(row[schema.SCALES], dtype=np.float16)).all():
        return True
    if row[schema.PATCH] is None:
        return False
    try:
        patch = codec.patches.unpack(row[schema.PATCH])
    except ValueError:
        return True
    places_fit = patch.kind != RAW or len(patch.tokens) == row[schema.NUM_TOKENS]
    return not (places_fit and (patch.positions < row[schema.NUM_TOKENS]).all() and _are_tokens(patch.tokens, codec))


def inexact(row: dict) -> InexactRecall:
    """The error that names a row with COLUMNS."""
    carried = None if row[schema.PATCH] is None else 0.0
    where = (row[name] for name in COLUMNS[:5])
    return InexactRecall(Recalled(*where, text="", exact=False, fidelity=row[schema.FIDELITY], carried=carried))


def _are_tokens(token_ids: np.ndarray, codec: Codec) -> bool:
    return bool((token_ids < codec.backbone.vocab_size).all())


def stored(row: dict) -> StoredMemory:
    """What the codec needs of a row with COLUMNS."""
    return StoredMemory(
        codes=row[schema.CODES],
        scales=row[schema.SCALES],
        num_tokens=row[schema.NUM_TOKENS],
        patch=row[schema.PATCH],
        matches=partial(_matches, row[schema.DOC_ID], row[schema.POSITION], row[schema.CHUNK_ID]),
    )


def _matches(doc_id: str, position: int, wanted: str, token_ids: np.ndarray) -> bool:
    return chunk_id(doc_id, position, token_ids) == wanted


def _windows(batches_: Iterable[pa.RecordBatch], size: int) -> Iterator[list[dict]]:
    """Lists of rows: of `size`, of twice that, and so on to WINDOW times that, so that the first text comes soon."""
    window, wanted = [], size
    for batch in batches_:
        for start in range(0, batch.num_rows, size):
            window += batch.slice(start, size).select(COLUMNS).to_pylist()
            while len(window) >= wanted:
                yield window[:wanted]
                window, wanted = window[wanted:], min(2 * wanted, WINDOW * size)
    if window:
        yield window
