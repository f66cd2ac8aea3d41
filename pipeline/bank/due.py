"""Chunks that an edit has only patched: latents and embedding are still those of the text before it."""

from __future__ import annotations

import pyarrow.compute as pc

from pipeline.bank.bank import Bank
from pipeline.schema import DOC_ID, EDITED

ONLY_PATCHED = pc.field(EDITED) == "patch"  # model/edit.py


def count_due(bank: Bank) -> int:
    """How many there are."""
    if EDITED not in bank.schema.names:
        return 0
    return sum(batch.num_rows for batch in bank.rows([EDITED], ONLY_PATCHED))


def due_documents(bank: Bank) -> list[str]:
    """The documents that have one."""
    if EDITED not in bank.schema.names:
        return []
    return sorted({doc_id for batch in bank.rows([DOC_ID], ONLY_PATCHED) for doc_id in batch.column(0).to_pylist()})
