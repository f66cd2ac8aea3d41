"""What a bank takes over of others beside rows: which of their units are finished, what those left out, and tombstones.

With it a rerun of a corpus of theirs encodes nothing again, and what was forgotten there is not brought back.
"""

from __future__ import annotations

from collections.abc import Sequence

from deltalake import Transaction

from pipeline.bank import transaction_log as log
from pipeline.bank.bank import REJECTED, Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.forgotten import carrying
from pipeline.bank.rejected import SUFFIX, list_names
from pipeline.bank.replace import without_documents


def carried(bank: Bank, others: Sequence[Bank]) -> list[Transaction]:
    """The records of the others that the bank lacks, for its next commit. Their lists of rejected documents and of
    tombstones are written now, and count from that commit on.
    """
    held = log.unit_records(bank.folder, bank.table)
    lacking: dict[str, int] = {}
    for other in others:
        records = log.unit_records(other.folder, other.table)
        lacking = {app: version for app, version in records.items() if app not in held} | lacking
        _copy_lists(bank, other)
    return [*(Transaction(app, version) for app, version in lacking.items()), *carrying(bank, *others)]


def marks(bank: Bank, others: Sequence[Bank], *, rewritten: bool) -> list[Transaction]:
    """What a commit says of units that it carries: `rewritten`, not all of their rows came along.

    Both counts become greater than any of the banks': a unit that is done again is recorded under the count of its
    time, and two banks' counts must not name two such doings alike.
    """
    tables = [bank.table, *(other.table for other in others)]
    found = []
    if rewritten or any(map(log.replacements, tables[1:])):
        found.append(log.replacement_transaction(*tables))
    if any(map(log.losses, tables[1:])):
        found.append(log.loss_transaction(*tables))
    return found


def _copy_lists(bank: Bank, other: Bank) -> None:
    there = set(bank.folder.names(REJECTED))
    for name in (f"{REJECTED}/{name}{SUFFIX}" for name in list_names(other)):
        if name not in there:
            bank.folder.put(name, other.folder.read(name))


def carry(bank: Bank, source: Bank) -> int:
    """Take over what `source` has beside rows, in a commit of its own; how many records. None, where none is lacking.

    For a bank that holds the source's documents in units of its own. What was forgotten there since leaves it.
    """
    for _ in range(ATTEMPTS):
        bank.reload()
        records = carried(bank, [source])
        forgotten = source.forgotten()
        gone = set(forgotten.among(doc_id for doc_id, _ in bank.documents())) if len(forgotten) else set()
        removed, kept = without_documents(bank, gone)
        actions = [*remove_actions(removed), *add_actions(kept)]
        noted = {"carried_from": source.folder.uri, "records": len(records)}
        if not records or swap(bank, actions, noted, [*records, *marks(bank, [source], rewritten=True)]):
            return len(records)
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to take over records: try again")
