"""Rows of whole documents come into a bank in one commit from this process, and older rows of theirs go.

The commit is a compare-and-swap as every other: it stands only on the version it was decided on, so encode jobs and
other writers may go on beside it. Each such commit would leave a file of a few rows behind. So files are joined as they
come, where FAN of about one size stand there: a bank that a thousand notes were put in one by one has some dozen files
more, and each row was written two or three times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from itertools import chain

import pyarrow as pa

from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.forgotten import lifting
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.replace import is_of
from pipeline.bank.unit_file import KEPT, REMEMBERED, as_schema, unit_of
from pipeline.schema import DOC_ID, UNIT

FAN = 16
JOINED_BYTES = 8_000_000  # larger files are left to `nextmem tend`


def put(bank: Bank, kind: str, rows: pa.Table, replaced: Set[str], holds: Callable[[], bool]) -> bool:
    """The rows in, and all other rows of the documents `replaced` out; `bank` stands on the new version afterwards.

    A document that was forgotten and comes again lifts its tombstone.
    `kind` says in `nextmem status` who is at work. `holds` is asked after each lost race whether the rows still fit the
    bank: where they do not, False is returned, with nothing done. Raises BusyError beside a tend, whose removal of
    orphans would take files that are not committed yet; ContendedError after ATTEMPTS lost races.
    """
    with _present(bank, kind):
        for attempt in range(ATTEMPTS):
            if _try(bank, kind, rows, replaced):
                return True
            if not holds():
                return False
            time.sleep(min(0.01 * 2**attempt, 1.0))
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to put rows in: try again")


@contextmanager
def _present(bank: Bank, kind: str) -> Iterator[None]:
    """Be seen while files lie there that no commit names. A thousand of these are not worth a thousand records."""
    with Presence(bank.folder, kind, remembered=False) as presence:
        presence.begin(state="committing")
        refuse_beside(bank.folder, "tend", but=presence.record.job)
        yield


def _try(bank: Bank, kind: str, rows: pa.Table, replaced: Set[str]) -> bool:
    """Files that lost their race are orphans, which a tend removes: another writer's may have the same bytes."""
    staying = ~is_of(replaced) if replaced else None
    leaving = {*_holding(bank, replaced), *_joined(bank, rows.num_rows)}
    kept = (
        batch
        for fragment in bank.dataset().get_fragments()
        if fragment.path in leaving
        for batch in fragment.scanner(schema=bank.schema, filter=staying).to_batches()
        if batch.num_rows
    )
    new = (as_schema(batch, bank.schema, kind) for batch in rows.combine_chunks().to_batches())
    units = {unit_of(path) for path in leaving} | set(rows.column(UNIT).unique().to_pylist())
    files = list(bank.writer().write_files(REMEMBERED if units == {REMEMBERED} else KEPT, chain(kept, new)))
    doc_ids = set(rows.column(DOC_ID).to_pylist())
    summary = {"by": kind, "documents": len(doc_ids), "replaced": len(replaced), "chunks": rows.num_rows}
    actions = [*remove_actions(sorted(leaving)), *add_actions(files)]
    return swap(bank, actions, summary, lifting(bank, doc_ids))


def _holding(bank: Bank, doc_ids: Set[str]) -> list[str]:
    """The files that hold rows of these documents."""
    if not doc_ids:
        return []
    theirs = is_of(doc_ids)
    return [f.path for f in bank.dataset().get_fragments(theirs) if f.count_rows(filter=theirs)]


def _joined(bank: Bank, rows: int) -> list[str]:
    """Small files that so many new rows go into one file with. Sizes are told apart by powers of FAN, in rows.

    Files of encode jobs stay as they are: a rerun knows what a unit's file holds without reading it.
    """
    log = pa.table(bank.table.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"]).to_pylist()
    small = [f for f in log if unit_of(f["path"]) in (REMEMBERED, KEPT) and f["size_bytes"] <= JOINED_BYTES]
    joined: list[str] = []
    while len(alike := [f for f in small if _power(f["num_records"]) == _power(rows)]) >= FAN - 1:
        joined += [file["path"] for file in alike]
        rows += sum(file["num_records"] for file in alike)
    return joined


def _power(rows: int) -> int:
    """The largest n with FAN ** n <= rows; 0 for none."""
    power = 0
    while FAN ** (power + 1) <= rows:
        power += 1
    return power
