"""What `tend --now` does beyond a tend: what was forgotten leaves every file and every version.

Beside old data files these name documents: plans (ids and hashes; spools have the corpus' text), lists of rejected
documents, the errors of jobs that failed, and the log, where each file has its smallest and largest values. Each step
leaves a whole bank, and the same command goes on where one was killed. Nobody else may be at work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, swap
from pipeline.bank.forgotten import files_but_the_newest, folding
from pipeline.bank.rejected import without_rejected
from pipeline.bank.transaction_log import LOG, list_transaction

ENTRY, LAST_CHECKPOINT = re.compile(r"(\d{20})\."), "_last_checkpoint"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Lists of rejected documents and of tombstones, as far as they were written anew."""

    documents: int = 0  # forgotten ones, that left the lists of rejected ones
    needless: tuple[str, ...] = ()  # files that may go now


def rewrite_lists(bank: Bank, *, dry_run: bool = False) -> Rewritten:
    """Take forgotten documents out of the lists of rejected ones, and put one list of tombstones for all.

    In a commit that brings nothing else: it is the one entry that the log will keep, and says nothing of any row.
    """
    if dry_run:
        return Rewritten(without_rejected(bank, bank.forgotten().among, dry_run=True).documents)
    for _ in range(ATTEMPTS):
        rejected = without_rejected(bank, bank.forgotten().among)
        transactions = [*map(list_transaction, rejected.lists), *folding(bank)]
        if swap(bank, [], {"erased_rejected": rejected.documents}, transactions):
            return Rewritten(rejected.documents, (*rejected.needless, *files_but_the_newest(bank)))
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to tend it: try again")


def drop_older_versions(bank: Bank) -> int:
    """Remove what the log holds beside its newest entry, which needs a checkpoint; how many files. The oldest go first.

    Older versions cannot be opened any more.
    """
    older = older_entries(bank)
    for name in older:
        bank.folder.remove(name)
    bank.table = Bank.open(bank.folder.uri).table
    return len(older)


def older_entries(bank: Bank) -> list[str]:
    """Files of the log that the newest version does without: commits and checkpoints before it, and half commits."""
    names = [name for name in bank.folder.names(LOG) if not name.endswith(LAST_CHECKPOINT)]
    numbers = {name: ENTRY.match(name.rpartition("/")[2]) for name in names}
    return sorted(name for name, number in numbers.items() if number is None or int(number[1]) < bank.version)
