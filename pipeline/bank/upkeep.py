"""Upkeep of a bank: join small files, remove orphans and what no version needs, checkpoint the log.

None of these touches the record that a unit is finished, nor the tombstones of what was forgotten. What was lost is
encoded again by a rerun: see `drop`.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass

from deltalake import ColumnProperties, CommitProperties, WriterProperties
from pyarrow import fs

from pipeline.bank.bank import INDEX, PLAN, Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, remove_actions, swap
from pipeline.bank.transaction_log import LOG, MARK, TROUBLES, holds_mark, loss_transaction, replacement_transaction
from pipeline.bank.unit_file import KEPT, LONGEST_INDEXED_TEXT, MAX_FILE_BYTES, REMEMBERED, unit_of
from pipeline.schema import INCOMPRESSIBLE
from pipeline.storage.storage import TEMPORARY

GROUP_ROWS = 2048
OURS = re.compile(r"part-[^/]*\.parquet")  # delta-rs' compaction names its files so too


def drop(bank: Bank, damaged: Collection[str]) -> list[str]:
    """Take files that cannot be read out of the table, and the other files of their units; which files went.

    From then on a rerun encodes every document of its corpus that the bank neither holds nor was told to forget:
    nothing tells what a file held that cannot be read.
    """
    units = {unit_of(name) for name in damaged} - {None, KEPT, REMEMBERED}
    for _ in range(ATTEMPTS):
        gone = [name for name in bank.files() if name in damaged or unit_of(name) in units]
        marks = [replacement_transaction(bank.table), loss_transaction(bank.table)]
        if not gone or swap(bank, remove_actions(gone), {"dropped_files": len(gone)}, marks):
            return gone
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to drop files: try again")


def compact(bank: Bank) -> int:
    """Join small files into files of at most 128 MB; how many files went.

    Safe beside a running encode job. Raises ContendedError, with nothing changed, where rows were deleted or
    replaced meanwhile.
    """
    for trouble in range(1, TROUBLES + 1):
        base, small, mark = bank.version, set(bank.files()), uuid.uuid4().hex
        try:
            _join(bank, mark)
            bank.reload()
        except OSError:
            bank.reload()
            made = any(holds_mark(bank.folder, at, mark) for at in range(base + 1, bank.version + 1))
            if not made and (bank.folder.is_local or trouble == TROUBLES):
                raise
            if not made:
                continue  # as in `swap`: a put that is reset is not tried again by delta-rs
        return len(small - set(bank.files()))


def _join(bank: Bank, mark: str) -> None:
    """In commits under this mark, on whatever version of the bank is the newest by then."""
    bank.table.optimize.compact(
        target_size=MAX_FILE_BYTES,
        max_concurrent_tasks=1,
        writer_properties=WriterProperties(
            compression="ZSTD",
            max_row_group_size=GROUP_ROWS,
            statistics_truncate_length=LONGEST_INDEXED_TEXT,
            column_properties={name: ColumnProperties(dictionary_enabled=False) for name in INCOMPRESSIBLE},
        ),
        commit_properties=CommitProperties(custom_metadata={MARK: mark}),
    )


@dataclass(frozen=True, slots=True)
class Unneeded:
    """Files of ours that the newest version does without, relative to the bank."""

    orphans: tuple[str, ...]  # no version ever had them: their writer died, temporary files among them
    superseded: tuple[str, ...]  # an earlier version had them: rows deleted, replaced, or joined into larger files
    plans: tuple[str, ...]  # of a corpus as it was; one that is wanted again costs a pass over the corpus


def unneeded(bank: Bank, *, orphan_hours: int, version_hours: int) -> Unneeded:
    """Orphans last written `orphan_hours` ago; files that left the table, and plans made, `version_hours` ago.

    The newest plan stays.

    A running job's files are young until it commits them, so keep the hours above its commit interval. What isn't a
    bank's file is never among them. The log forgets what left the table more than a week ago (Delta's own default):
    such a file is an orphan by then.
    """
    left, left_long_ago = (set(_listed(bank, hours, full=False)) for hours in (0, version_hours))
    orphans = [name for name in _listed(bank, orphan_hours, full=True) if name not in left]
    return Unneeded(
        orphans=tuple(orphans + _left_behind(bank, orphan_hours)),
        superseded=tuple(sorted(left_long_ago)),
        plans=tuple(_old_plans(bank, version_hours)),
    )


def everything_unneeded(bank: Bank) -> Unneeded:
    """The same however young, all plans and spools included.

    Nobody may be at work on the bank: a file that waits for its commit is among it.
    """
    live, left = set(bank.files()), set(_listed(bank, 0, full=False))
    ours = [name for name in bank.folder.names() if OURS.fullmatch(name) and name not in live]
    plans = [*bank.folder.names(PLAN, recursive=True), *bank.folder.names(INDEX, recursive=True)]
    return Unneeded(
        orphans=tuple([name for name in ours if name not in left] + _left_behind(bank, 0, beside=plans)),
        superseded=tuple(name for name in ours if name in left),
        plans=tuple(plans),
    )


def remove(bank: Bank, files: Unneeded) -> None:
    """Delete them for good."""
    for name in (*files.orphans, *files.superseded, *files.plans):
        bank.folder.remove(name)


def joinable(bank: Bank) -> list[int]:
    """Bytes of each live file that `compact` would look at; fewer than two give it nothing to do."""
    sizes = [bank.folder.size(name) or 0 for name in bank.files()]
    return [size for size in sizes if size < MAX_FILE_BYTES]


def checkpoint(bank: Bank) -> int:
    """Write the log's state at this version as one file, then drop the commits before it that are older than the log
    keeps them (30 days by default); how many files of the log went. Versions that old cannot be opened any more.
    """
    bank.table.create_checkpoint()
    written = len(bank.folder.names(LOG))
    bank.table.cleanup_metadata()
    return written - len(bank.folder.names(LOG))


def _listed(bank: Bank, hours: int, *, full: bool) -> list[str]:
    """What delta-rs would vacuum. `full`: also what the log has never named."""
    unused = bank.table.vacuum(hours, dry_run=True, enforce_retention_duration=False, full=full)
    return sorted(name for name in unused if OURS.fullmatch(name))


def _left_behind(bank: Bank, older_than_hours: int, *, beside: Collection[str] = ()) -> list[str]:
    """Temporary files of writers that died, but for some that are known."""
    if not bank.folder.is_local:
        return []  # a put to an object store has no temporary name
    found = bank.folder.filesystem.get_file_info(fs.FileSelector("", recursive=True))
    old = [info.path for info in found if TEMPORARY in info.base_name and _is_old(info, older_than_hours)]
    return sorted(set(old) - set(beside))


def _old_plans(bank: Bank, older_than_hours: int) -> list[str]:
    found = bank.folder.filesystem.get_file_info(fs.FileSelector(PLAN, allow_not_found=True))
    by_age = sorted((info for info in found if info.is_file), key=lambda info: info.mtime_ns or 0)
    return sorted(info.path for info in by_age[:-1] if _is_old(info, older_than_hours))


def _is_old(info: fs.FileInfo, hours: int) -> bool:
    return (info.mtime_ns or 0) / 1e9 <= time.time() - 3600 * hours
