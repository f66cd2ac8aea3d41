"""An older version's rows become the newest version, in one commit. Nothing between is lost: it can be restored too.

The files of the older version come back as they are; those that only newer versions have leave the table. A rerun of
encode on the restored bank encodes what its corpus has and the bank has not, as it would have done at that version:
what was encoded since is encoded again. Records of finished units cannot leave the log, so the commit says, as `drop`
does, that they no longer vouch for their rows. What was forgotten since stays forgotten: `nextmem forget --undo` brings
it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.live import live
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.replace import documents_in, without_documents
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
    forgotten: int  # documents of that version that stay out, for the bank was told to forget them since
    files_back: int
    files_out: int


def restore(bank: Bank, old: Bank) -> Restored:
    """Make the rows of `old`, an earlier version, those of the newest, without what was forgotten since.

    Nothing is committed where they are already. Raises Missing where files of the old version were tended away,
    BusyError beside another job.
    """
    with Presence(bank.folder, "restore", remembered=False) as presence:
        presence.begin(state="restoring")  # before looking: of a tend and this, at least one sees the other
        refuse_beside(bank.folder, *BESIDE, but=presence.record.job)
        for _ in range(ATTEMPTS):
            bank.reload()
            if (restored := _try(bank, old)) is not None:
                return restored
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to restore it: try again")


def _try(bank: Bank, old: Bank) -> Restored | None:
    """None where another writer came first."""
    before, now, then = bank.count(), live(bank.table), live(old.table)
    back = then.keys() - now.keys()
    require_files(old, sorted(back))
    forgotten = set(bank.forgotten().among(documents_in(old, sorted(back)))) if len(bank.forgotten()) else set()
    touched, files = without_documents(old, forgotten, bank.writer())
    files += [then[path] for path in sorted(back - set(touched))]
    out = sorted(now.keys() - then.keys() - {file.path for file in files})  # equal rows make a file of equal name
    files = [file for file in files if file.path not in now]
    actions = [*remove_actions(out), *add_actions(files)]
    marks = [replacement_transaction(bank.table), loss_transaction(bank.table)]
    if actions and not swap(bank, actions, {"restored_version": old.version}, marks):
        return None
    counts = {"chunks_before": before, "chunks": bank.count(), "forgotten": len(forgotten)}
    return Restored(bank.folder.uri, bank.version, old.version, **counts, files_back=len(files), files_out=len(out))
