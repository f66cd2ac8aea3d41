"""Take a `forget` back: the rows return as they were, from the version before it, and the tombstones are lifted.

One commit does both. It takes the version to be kept still: `nextmem tend` removes the files of versions after a week,
and `nextmem tend --now` at once. To planning it is a replacement: a unit that was finished without the document may
have another text of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import groupby

from deltalake.exceptions import DeltaError

from model.refusal import Missing, Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.commit import add_actions, remove_actions, swap
from pipeline.bank.forget import Forgot, announced, count_chunks, decided_anew, forgot, values_of
from pipeline.bank.forgotten import Hashes, lifting_hashes
from pipeline.bank.replace import is_of, rewritten, without_documents
from pipeline.bank.transaction_log import replacement_transaction
from pipeline.bank.unit_file import WrittenFile
from pipeline.schema import DOC_ID

By = dict[int, set[str]]  # the documents that each version forgot


def bring_back(bank: Bank, doc_ids: Collection[str] | None = None, *, dry_run: bool = False) -> Forgot:
    """Bring these documents back, or all that the last `forget` took out and nobody brought back since.

    Raises Refusal where a document is not forgotten, or nothing is; Missing where the version that held the rows is
    cleaned, with nothing changed; BusyError beside a tend; ContendedError after ATTEMPTS lost races.
    """
    bank.reload()
    if dry_run:
        return forgot(bank, _chunks(bank, _chosen(bank, doc_ids)[0]), dry_run=True)
    with announced(bank):
        return decided_anew(bank, lambda: _try(bank, doc_ids))


def _try(bank: Bank, doc_ids: Collection[str] | None) -> Forgot | None:
    """None where another writer came first."""
    by, hashes = _chosen(bank, doc_ids)
    chunks = _chunks(bank, by)
    files = [file for version, ids in by.items() for file in _rows(bank, version, ids)]
    removed, kept = without_documents(bank, chunks.keys())  # of a document that has come back by another way
    actions = [*remove_actions(removed), *add_actions([*files, *kept])]
    transactions = [*lifting_hashes(bank, hashes), replacement_transaction(bank.table)]
    done = swap(bank, actions, {"brought_back_documents": len(chunks)}, transactions)
    return forgot(bank, chunks) if done else None


def _chosen(bank: Bank, doc_ids: Collection[str] | None) -> tuple[By, Hashes]:
    """The documents to bring back, by the version that forgot them; and their tombstones."""
    tombstones = bank.forgotten()
    if doc_ids is None:
        newest = max((at for ats in tombstones.at.values() for at in ats.values()), default=None)
        if newest is None:
            raise Refusal(f"{bank.folder.uri} has nothing forgotten at version {bank.version} to bring back")
        with _before(bank, newest) as before:
            held = (value for batch in before.rows([DOC_ID], batch_rows=65_536) for value in values_of(batch))
            found = {doc_id for doc_id, at in tombstones.among(held).items() if at == newest}
        return {newest: found}, tombstones.since(newest)
    at = tombstones.among(doc_ids)
    missing = next((doc_id for doc_id in doc_ids if doc_id not in at), None)
    if missing is not None:
        raise Refusal(f"{bank.folder.uri} has not forgotten {missing!r} at version {bank.version}: nothing is changed")
    ordered = sorted(at, key=at.__getitem__)
    return {version: set(ids) for version, ids in groupby(ordered, key=at.__getitem__)}, tombstones.of(list(at))


def _chunks(bank: Bank, by: By) -> Counter[str]:
    """How many each of the documents had; 0 of one that was only rejected."""
    found = Counter[str]()
    for version, ids in by.items():
        with _before(bank, version) as before:
            found.update(dict.fromkeys(ids, 0) | count_chunks(before, ids))
    return found


def _rows(bank: Bank, version: int, doc_ids: set[str]) -> list[WrittenFile]:
    """Their rows as they were, in new files with the columns that the bank has now."""
    wanted = is_of(doc_ids)
    with _before(bank, version) as before:
        fragments = before.dataset().get_fragments(wanted)
        return [file for fragment in fragments for file in rewritten(bank, fragment, wanted)]


@contextmanager
def _before(bank: Bank, version: int) -> Iterator[Bank]:
    """The bank as it was before a version. Raises Missing where that, or a file of it, is cleaned."""
    try:
        yield Bank.open(bank.folder.uri, version=version - 1)
    except (FileNotFoundError, DeltaError):
        raise Missing(
            f"version {version - 1} of {bank.folder.uri}, which held what was forgotten then, is cleaned: it cannot be "
            "brought back, and `nextmem remember` takes a document anew"
        ) from None
