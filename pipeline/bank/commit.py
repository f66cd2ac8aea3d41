"""One commit for many finished units. A unit's files and the record that it is finished appear in the same version.

Every commit is a compare-and-swap: it stands only on the very version it was decided on. Whatever comes between,
another job's units or a compaction, makes it fail; then the bank is reloaded, what the table now holds is dropped, and
it is decided anew. (delta-rs' own conflict check is not enough: it lets two appends of one unit both through, and does
not notice that a file about to be removed was compacted into another.)
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from model.refusal import Missing, Unavailable
from pipeline.bank.bank import Bank
from pipeline.bank.forgotten import Tombstones, lifting
from pipeline.bank.replace import arrived_elsewhere, documents_in, tokens_in, without_documents, written_without
from pipeline.bank.transaction_log import (
    MARK,
    SUMMARY,
    TROUBLES,
    holds_mark,
    list_transaction,
    replacement_transaction,
    unit_transaction,
)
from pipeline.bank.unit_file import WrittenFile, require_unit_id

ATTEMPTS = 20
DISK_FULL = os.strerror(errno.ENOSPC)  # in the midst of what delta-rs says


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker hands the driver for one finished unit: everything a commit needs, and no rows."""

    unit_id: str
    files: tuple[WrittenFile, ...] = ()  # none where every document was rejected
    documents: int = 0
    chunks: int = 0
    tokens: int = 0
    rejected: int = 0
    rejections: str | None = None  # name of their list (pipeline/bank/rejected.py)
    replaces: tuple[str, ...] = ()  # ids of documents whose rows in the bank must go as these come
    lifts: tuple[str, ...] = ()  # ids of documents that come although they were forgotten: their tombstones go
    forgotten: int = 0  # documents that the commit left out because they were forgotten after the plan was made
    numbers: dict[str, float] = field(default_factory=dict)  # whatever else the summary adds up

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        values = json.loads(text)
        files = tuple(WrittenFile(**each) for each in values.pop("files"))
        ids = {name: tuple(values.get(name, ())) for name in ("replaces", "lifts")}
        return cls(**{**values, "files": files, **ids})


@dataclass(frozen=True, slots=True)
class Commit:
    """What one call of `commit` did."""

    version: int  # the bank's version after it
    units: tuple[str, ...]  # committed now
    known: tuple[str, ...]  # not committed: the bank held them already
    receipts: tuple[Receipt, ...] = ()  # of the units committed now, less what was forgotten meanwhile


class ContendedError(Unavailable, CommitFailedError):
    """Other writers came first each time: the same command may find more luck."""


def commit(bank: Bank, receipts: Iterable[Receipt]) -> Commit:
    """Make finished units visible, all in one version of the table; a unit the table holds is left out.

    The bank object must be the one the job's plan was made with: documents that another job brought since then and that
    these units hold too are replaced, so that no document is there twice, and those that were forgotten since are left
    out. `bank` stands on the new version afterwards.
    Raises FileNotFoundError if a unit's file is not in the bank, CommitFailedError after ATTEMPTS lost races.
    """
    wanted: dict[str, Receipt] = {}
    for receipt in receipts:
        require_unit_id(receipt.unit_id)
        wanted.setdefault(receipt.unit_id, receipt)
    for attempt in range(ATTEMPTS):
        held = bank.finished_units(wanted)
        fresh = [receipt for unit_id, receipt in wanted.items() if unit_id not in held]
        _require_written(bank, fresh)
        made = _without_forgotten(bank, fresh)
        if not made or _try(bank, made):
            return Commit(bank.version, tuple(each.unit_id for each in made), tuple(sorted(held)), tuple(made))
        time.sleep(min(0.01 * 2**attempt, 1.0))
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to commit {len(wanted)} units")


def swap(
    bank: Bank, actions: list[AddAction | RemoveAction], summary: dict, transactions: Sequence[Transaction] = ()
) -> bool:
    """Write the next version if the bank's is the newest, and stand on it. False: it wasn't; the bank is reloaded.

    An object store may also make the commit and lose its answer: a commit that failed is looked for in the log, by a
    mark of its own.
    """
    bank.arrivals()
    base, mark = bank.version, uuid.uuid4().hex
    properties = CommitProperties(
        custom_metadata={SUMMARY: summary, MARK: mark},
        max_commit_retries=0,  # this is the compare-and-swap
        app_transactions=list(transactions),
    )
    for trouble in range(1, TROUBLES + 1):
        try:
            bank.table.create_write_transaction(actions, "append", bank.schema, commit_properties=properties)
            break
        except (CommitFailedError, OSError) as error:
            bank.reload()
            if bank.version != base and not holds_mark(bank.folder, base + 1, mark):
                return False
            if bank.version != base:
                break
            if DISK_FULL in str(error):
                raise OSError(errno.ENOSPC, DISK_FULL, bank.folder.uri) from error
            if isinstance(error, CommitFailedError) or bank.folder.is_local or trouble == TROUBLES:
                raise
            time.sleep(0.5 * trouble)  # a put that is reset is not tried again by delta-rs: it may have been done
    bank.reload()
    bank.sorted_until = base + 1
    return True


def add_actions(files: Iterable[WrittenFile]) -> list[AddAction]:
    now = int(time.time() * 1000)
    return [AddAction(file.path, file.size, {}, now, True, file.stats) for file in files]


def remove_actions(paths: Iterable[str]) -> list[RemoveAction]:
    now = int(time.time() * 1000)
    return [RemoveAction(path, True, now) for path in paths]


def _try(bank: Bank, receipts: list[Receipt]) -> bool:
    actions = _actions(bank, receipts)
    transactions = [unit_transaction(receipt.unit_id, receipt.documents) for receipt in receipts]
    transactions += [list_transaction(receipt.rejections) for receipt in receipts if receipt.rejections]
    if any(isinstance(action, RemoveAction) for action in actions):
        transactions.append(replacement_transaction(bank.table))
    transactions += lifting(bank, {doc_id for receipt in receipts for doc_id in receipt.lifts})
    return swap(bank, actions, _summary(receipts), transactions)


def _actions(bank: Bank, receipts: list[Receipt]) -> list[AddAction | RemoveAction]:
    """New files in, the files of replaced documents out; what else those held comes back in files of its own."""
    files = [file for receipt in receipts for file in receipt.files]
    leaving = {doc_id for receipt in receipts for doc_id in receipt.replaces} | arrived_elsewhere(bank, files)
    removed, kept = without_documents(bank, leaving)
    if bank.arrivals():
        bank.count_as_arrivals(file.path for file in kept)
    return [*remove_actions(removed), *add_actions([*files, *kept])]


def _without_forgotten(bank: Bank, receipts: list[Receipt]) -> list[Receipt]:
    """The receipts less the documents that are forgotten by now; files of theirs that held one become orphans.

    Decided anew for every attempt, so a document is never brought back by a job that was planned before it went.
    """
    forgotten = bank.forgotten()
    return [_less(bank, receipt, forgotten) for receipt in receipts] if len(forgotten) else receipts


def _less(bank: Bank, receipt: Receipt, forgotten: Tombstones) -> Receipt:
    paths = [file.path for file in receipt.files]
    gone = set(forgotten.among(documents_in(bank, paths) - set(receipt.lifts))) if paths else set()
    if not gone:
        return receipt
    files = tuple(written_without(bank, receipt.unit_id, paths, gone))
    return replace(
        receipt,
        files=files,
        documents=receipt.documents - len(gone),
        chunks=sum(file.num_records for file in files),
        tokens=tokens_in(bank, [file.path for file in files]),
        forgotten=len(gone),
    )


def _require_written(bank: Bank, receipts: list[Receipt]) -> None:
    """A log that names a missing file makes the whole bank unreadable, so look before."""
    sizes = bank.folder.sizes(file.path for receipt in receipts for file in receipt.files)
    for receipt in receipts:
        for file in receipt.files:
            if sizes[file.path] != file.size:
                raise Missing(
                    f"unit {receipt.unit_id} says it wrote {file.path} ({file.size} bytes), and {bank.folder.uri} has "
                    "no such file: every worker must see the bank under this very path. Use shared storage."
                )


def _summary(receipts: list[Receipt]) -> dict[str, int]:
    """Kept in the table's history, for people."""
    counted = ("documents", "chunks", "tokens", "rejected")
    return {"units": len(receipts), **{name: sum(getattr(each, name) for each in receipts) for name in counted}}
