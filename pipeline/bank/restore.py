"""An older version's rows become the newest version, in one commit. Nothing between is lost: it can be restored too.

The files of the older version come back as they are; those that only newer versions have leave the table. A rerun of
encode on the restored bank encodes what its corpus has and the bank has not, as it would have done at that version:
what was encoded since is encoded again. Records of finished units cannot leave the log, so the commit says, as `drop`
does, that they no longer vouch for their rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.live import live
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.transaction_log import loss_transaction, replacement_transaction
from pipeline.bank.versions import require_files

BESIDE = ("encode", "tend", "refine", "merge")  # none of which may run meanwhile


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done. Chunks are of the whole bank."""

    bank: str
    version: int  # the new one; the old one where there was nothing to do
    restored: int  # the version whose rows it has
    chunks_before: int
    chunks: int
    files_back: int
    files_out: int


def restore(bank: Bank, old: Bank) -> Restored:
    """Make the rows of `old`, an earlier version, those of the newest. Nothing is committed where they are already.

    Raises Missing where files of the old version were tended away, BusyError beside another job.
    """
    with Presence(bank.folder, "restore") as presence:
        presence.begin(state="restoring")  # before looking: of a tend and this, at least one sees the other
        refuse_beside(bank.folder, *BESIDE, but=presence.record.job)
        then = live(old.table)
        for _ in range(ATTEMPTS):
            bank.reload()
            now = live(bank.table)
            back, out = [then[path] for path in then.keys() - now.keys()], sorted(now.keys() - then.keys())
            require_files(old, sorted(file.path for file in back))
            done = Restored(
                bank=bank.folder.uri,
                version=bank.version + bool(back or out),
                restored=old.version,
                chunks_before=sum(file.num_records for file in now.values()),
                chunks=sum(file.num_records for file in then.values()),
                files_back=len(back),
                files_out=len(out),
            )
            marks = [replacement_transaction(bank.table), loss_transaction(bank.table)]
            actions = [*remove_actions(out), *add_actions(back)]
            if not actions or swap(bank, actions, {"restored_version": old.version}, marks):
                return done
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to restore it: try again")
