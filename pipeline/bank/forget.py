"""Forget documents: their rows leave in one commit, and tombstones in the same commit keep them out from then on.

The commit stands only on the version that it was decided on, so a job may encode beside it. The bytes stay in older
versions until `nextmem tend`, for `bring_back`; `nextmem tend --now` removes them everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.forgotten import forgetting
from pipeline.bank.lookup import require_all
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.rejected import rejected
from pipeline.bank.replace import is_of, without_documents
from pipeline.schema import DOC_ID

NAMED = 5  # ids that are shown


@dataclass(frozen=True, slots=True)
class Forgot:
    """What was forgotten or brought back, or in a dry run what would be."""

    bank: str
    version: int  # of the bank after it
    documents: int
    chunks: int
    ids: tuple[str, ...]  # the first of them, sorted; none that nobody knows any more
    already: int  # documents asked for that were forgotten before
    dry_run: bool


def forget(
    bank: Bank, doc_ids: Collection[str] | None = None, *, where: pc.Expression | None = None, dry_run: bool = False
) -> Forgot:
    """Forget these documents, or every document with a chunk of which `where` is true, in the newest version.

    What is forgotten already stays so, and is counted. A document that was only rejected is forgotten too: it is not
    tried again. Raises NotInBank for an id that the bank knows nothing of, with nothing changed; BusyError beside a
    tend; ContendedError after ATTEMPTS lost races.
    """
    if doc_ids is None and where is None:
        raise Refusal("nothing says which documents to forget: an empty filter is true of every one")
    bank.reload()
    if dry_run:
        chunks, already = _chosen(bank, doc_ids, where)
        return forgot(bank, chunks, already=already, dry_run=True)
    with announced(bank):
        return decided_anew(bank, lambda: _try(bank, doc_ids, where))


def _try(bank: Bank, doc_ids: Collection[str] | None, where: pc.Expression | None) -> Forgot | None:
    """None where another writer came first."""
    chunks, already = _chosen(bank, doc_ids, where)
    if not chunks:
        return forgot(bank, chunks, already=already)
    transactions = forgetting(bank, chunks)
    removed, kept = without_documents(bank, chunks.keys())
    actions = [*remove_actions(removed), *add_actions(kept)]
    done = swap(bank, actions, {"forgotten_documents": len(chunks)}, transactions)
    return forgot(bank, chunks, already=already) if done else None


def _chosen(bank: Bank, doc_ids: Collection[str] | None, where: pc.Expression | None) -> tuple[Counter[str], int]:
    """The documents to forget and how many chunks each has; how many of those asked for are forgotten already."""
    if doc_ids is None:
        doc_ids = {value for batch in bank.rows([DOC_ID], where, batch_rows=65_536) for value in values_of(batch)}
    chunks = count_chunks(bank, set(doc_ids))
    missing = [doc_id for doc_id in doc_ids if doc_id not in chunks]
    already = set(bank.forgotten().among(missing))
    if unknown := set(missing) - already:
        unencoded = unknown & {document.doc_id for document in rejected(bank)}
        require_all(bank, DOC_ID, [doc_id for doc_id in missing if doc_id in unknown], unencoded)
        chunks.update(dict.fromkeys(unencoded, 0))
    return chunks, len(already)


def count_chunks(bank: Bank, doc_ids: set[str]) -> Counter[str]:
    """Of each of the documents that the bank holds."""
    found = Counter[str]()
    for batch in bank.rows([DOC_ID], is_of(doc_ids), batch_rows=65_536) if doc_ids else ():
        found.update(values_of(batch))
    return found


def values_of(batch) -> list[str]:
    """A batch's only column."""
    return batch.column(0).to_pylist()


def forgot(bank: Bank, chunks: Counter[str], *, already: int = 0, dry_run: bool = False) -> Forgot:
    """The record, of documents by their number of chunks."""
    named = tuple(sorted(chunks)[:NAMED])
    return Forgot(bank.folder.uri, bank.version, len(chunks), chunks.total(), named, already, dry_run)


@contextmanager
def announced(bank: Bank) -> Iterator[None]:
    """Seen as a writer while the block runs, never beside a tend: it removes files that no commit has named yet."""
    with Presence(bank.folder, "forget", remembered=False) as presence:
        presence.begin(state="forgetting")
        refuse_beside(bank.folder, "tend")
        bank.reload()
        yield


def decided_anew(bank: Bank, attempt: Callable[[], Forgot | None]) -> Forgot:
    """What an attempt gives that was not overtaken by another writer."""
    for _ in range(ATTEMPTS):
        if (made := attempt()) is not None:
            return made
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to forget: try again")
