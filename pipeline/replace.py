"""Old rows of a document leave as its new ones come: whole files out, and what else they held back in under new names.

Parquet files never change, so removing one document rewrites the files that hold it. Many documents at once cost no more
than the files they lie in, one file in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from pipeline.bank import Bank, live_files
from pipeline.schema import DOC_ID
from pipeline.unit_file import WrittenFile


def without_documents(bank: Bank, doc_ids: Set[str]) -> tuple[list[str], list[WrittenFile]]:
    """(files that hold rows of these documents, new files with those files' other rows), neither in the log yet."""
    removed, kept = [], []
    if doc_ids:
        leaving = pc.field(DOC_ID).isin(pa.array(sorted(doc_ids), pa.string()))
        for fragment in bank.dataset().get_fragments(leaving):
            if fragment.count_rows(filter=leaving):
                removed.append(fragment.path)
                kept.extend(_rewritten(bank, fragment, ~leaving))
    return removed, kept


def arrived_elsewhere(bank: Bank, files: Iterable[WrittenFile]) -> set[str]:
    """The documents in these files that another job has brought since this one made its plan. Mostly nothing was brought."""
    if bank.version == bank.known_version:
        return set()
    known = DeltaTable(bank.folder.uri, version=bank.known_version, storage_options=bank.folder.storage_options)
    arrived = set(bank.files()) - set(live_files(known))
    return _documents(bank, [file.path for file in files]) & _documents(bank, sorted(arrived))


def _rewritten(bank: Bank, fragment: ds.ParquetFileFragment, staying: pc.Expression) -> Iterable[WrittenFile]:
    batches = fragment.scanner(schema=bank.schema, filter=staying).to_batches()
    return bank.writer().write_files("kept", (batch for batch in batches if batch.num_rows))


def _documents(bank: Bank, paths: list[str]) -> set[str]:
    rows = ds.dataset(paths, bank.schema, "parquet", bank.folder.filesystem)
    held = set()
    for batch in rows.to_batches(columns=[DOC_ID]):
        held.update(batch.column(0).unique().to_pylist())
    return held
