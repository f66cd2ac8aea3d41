"""A corpus too large to embed in this process goes through `encode` into a bank, and the bank is searched.

The bank lies in the evaluation's folder, so that a killed encode goes on. A passage is a document; its best chunk
counts. Shapes: Q queries, N rows, E embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jobs.evaluate.kept import key_of
from jobs.evaluate.sets import Query, Text
from jobs.settings import EncodeSettings
from model.config import CodecConfig
from model.refusal import Unavailable
from pipeline.bank.bank import Bank
from pipeline.bank.opened import open_bank
from pipeline.bank.search import nearest_of_each
from pipeline.corpus.documents import ColumnRoles
from pipeline.schema import DOC_ID, EMBEDDING

FROM = 20_000  # passages from which on a bank is made
CHUNKS_A_PASSAGE = 3  # hits that are asked for, for each passage wanted: a passage may have several chunks


def bank_of(corpus: Sequence[Text], codec: Path, folder: Path, *, backbone: str | None) -> Bank:
    """The corpus as a bank in `folder`; what is there already is not encoded again. Unverified: it is only searched.

    Unavailable where something was left out: a passage that is not there would never be found.
    """
    from jobs.encode.encode import run_encode
    from jobs.encode.request import EncodeRequest

    place = folder / key_of([passage.id for passage in corpus], str(codec))[:16]
    place.mkdir(parents=True, exist_ok=True)
    documents = place / "corpus.jsonl"
    if not documents.is_file():
        partial = place / ".corpus.partial"
        lines = (json.dumps({"id": each.id, "text": each.text}) + "\n" for each in corpus)
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        partial.replace(documents)
    request = EncodeRequest(
        corpus=(str(documents),),
        bank=str(place / "bank"),
        columns=ColumnRoles(text="text", id="id"),
        settings=EncodeSettings(),
        config=CodecConfig(),
        codec=str(codec),
        backbone=backbone,
        verify=False,
    )
    result = run_encode(request)
    if not result.complete:
        raise Unavailable(f"{result.bank} lacks passages of the corpus: `nextmem encode` says which")
    return open_bank(result.bank)


def runs(bank: Bank, queries_QE: np.ndarray, most: int) -> list[dict[str, float]]:
    """The `most` nearest passages of each query and their cosines, by searching the bank."""
    found = []
    for hits in nearest_of_each(bank, queries_QE, most * CHUNKS_A_PASSAGE):
        best: dict[str, float] = {}
        for hit in hits:  # nearest first
            best.setdefault(hit.doc_id, hit.score)
        found.append(dict(list(best.items())[:most]))
    return found


def pools(bank: Bank, queries: Sequence[Query], queries_QE: np.ndarray, most: int) -> list[dict[str, float] | None]:
    """The `most` nearest passages of each query's own pool, in one pass over the bank's embeddings."""
    wanted = {name for query in queries for name in query.pool or ()}
    best: dict[str, np.ndarray] = {}
    for batch in bank.rows([DOC_ID, EMBEDDING]):
        rows_NE = batch.column(EMBEDDING).flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        scores_NQ = rows_NE @ queries_QE.T.astype(np.float32)
        for name, scores_Q in zip(batch.column(DOC_ID).to_pylist(), scores_NQ, strict=True):
            if name in wanted:
                best[name] = np.maximum(best[name], scores_Q) if name in best else scores_Q
    return [
        None if query.pool is None else _nearest(query.pool, best, place, most) for place, query in enumerate(queries)
    ]


def _nearest(pool: Sequence[str], best: dict[str, np.ndarray], place: int, most: int) -> dict[str, float]:
    scored = sorted(((float(best[name][place]), name) for name in pool if name in best), key=lambda each: -each[0])
    return {name: score for score, name in scored[:most]}
