"""Old rows of a document leave as its new ones come: whole files out, and what else they held back in.

Parquet files never change, so removing one document rewrites the files that hold it. Many documents at once cost no
more than the files they lie in, one file in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipeline.bank.bank import Bank
from pipeline.bank.unit_file import KEPT, UnitWriter, WrittenFile
from pipeline.schema import DOC_ID, NUM_TOKENS


def without_documents(
    bank: Bank, doc_ids: Set[str], writer: UnitWriter | None = None
) -> tuple[list[str], list[WrittenFile]]:
    """(files that hold rows of these documents, new files with those files' other rows), neither in the log yet.

    `writer`: another bank's, for the new files to lie there.
    """
    removed, kept = [], []
    if doc_ids:
        leaving = is_of(doc_ids)
        for fragment in bank.dataset().get_fragments(leaving):
            if fragment.count_rows(filter=leaving):
                removed.append(fragment.path)
                kept.extend(rewritten(bank, fragment, ~leaving, writer=writer))
    return removed, kept


def written_without(bank: Bank, unit_id: str, paths: list[str], doc_ids: Set[str]) -> list[WrittenFile]:
    """A unit's files that no commit has named yet, without these documents: new files with their other rows."""
    staying = ~is_of(doc_ids)
    fragments = ds.dataset(paths, bank.schema, "parquet", bank.folder.filesystem).get_fragments()
    return [file for fragment in fragments for file in rewritten(bank, fragment, staying, unit_id)]


def arrived_elsewhere(bank: Bank, files: Iterable[WrittenFile]) -> set[str]:
    """The documents in these files that another job has brought since this one made its plan. Mostly none."""
    arrived = sorted(bank.arrivals())
    ours = documents_in(bank, [file.path for file in files]) if arrived else set()
    return documents_in(bank, arrived, among=ours) if ours else set()


def documents_in(bank: Bank, paths: list[str], among: Set[str] = frozenset()) -> set[str]:
    """The documents that these files hold, live or not; of some documents alone, where they are given."""
    rows = ds.dataset(paths, bank.schema, "parquet", bank.folder.filesystem)
    held: set[str] = set()
    for batch in rows.to_batches(columns=[DOC_ID], filter=is_of(among) if among else None):
        held.update(batch.column(0).unique().to_pylist())
    return held


def tokens_in(bank: Bank, paths: list[str]) -> int:
    """Of all rows that these files hold."""
    rows = ds.dataset(paths, bank.schema, "parquet", bank.folder.filesystem)
    return pc.sum(rows.to_table(columns=[NUM_TOKENS]).column(0)).as_py() or 0


def is_of(doc_ids: Set[str]) -> pc.Expression:
    """Rows of these documents."""
    return pc.field(DOC_ID).isin(pa.array(sorted(doc_ids), pa.string()))


def rewritten(
    bank: Bank,
    fragment: ds.ParquetFileFragment,
    staying: pc.Expression | None,
    label: str = KEPT,
    writer: UnitWriter | None = None,
) -> Iterable[WrittenFile]:
    """A file's rows for which this holds, in new files of the bank, or of the writer's."""
    writer = writer or bank.writer()
    batches = fragment.scanner(schema=writer.schema, filter=staying).to_batches()
    return writer.write_files(label, (batch for batch in batches if batch.num_rows))
