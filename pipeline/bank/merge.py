"""Other banks' rows come into a bank, all of them in one commit, byte for byte as they are.

Files are copied under their own names, which hold a hash of their content or are unique otherwise. A file with a
document that must not come, or without a column that the bank has, is written anew. A merge that was killed has left
files that no commit names: the same command takes them up. Merged again, a bank brings only what it has got since.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deltalake.transaction import AddAction, RemoveAction

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.carry import carried, marks
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, remove_actions, swap
from pipeline.bank.contest import RULES, Contest
from pipeline.bank.live import live
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.replace import is_of, rewritten, without_documents
from pipeline.bank.unit_file import KEPT, WrittenFile, unit_of
from pipeline.schema import ADDED

COPIES = 4  # at once, each of a file of at most 128 MB


@dataclass(frozen=True, slots=True)
class Merged:
    """What was done. Documents are counted once, however many of the banks hold them."""

    bank: str
    version: int  # of the bank after it
    banks: int  # that were merged into it
    brought: int  # documents
    same: int  # documents that the bank held with the same text
    conflicts: int  # documents that it held with another text
    replaced: int  # of those: the ones that gave way to a newer text
    forgotten: int  # that one of the banks has forgotten, and therefore the merged one
    chunks_before: int
    chunks: int


def merge(bank: Bank, others: Sequence[Bank], *, on_conflict: str = "refuse") -> Merged:
    """Bring the newest versions of the others into the bank. Nothing is committed where nothing is new.

    `on_conflict` says what becomes of a document that two hold with different texts: see `Contest`. Where a bank has no
    column of that name, its rows get null. Raises Refusal for another codec's bank and for columns that the bank has
    not; BusyError beside a tend.
    """
    if on_conflict not in RULES:
        raise Refusal(f"on_conflict is {on_conflict!r}; it must be one of {', '.join(RULES)}")
    _require_mergeable(bank, others)
    with Presence(bank.folder, "merge", remembered=False) as presence:
        presence.begin(state="merging")
        refuse_beside(bank.folder, "tend")
        bank.reload()
        if any(field in other.schema.names for field in ADDED for other in others):
            bank.add_columns()
        for _ in range(ATTEMPTS):
            if (merged := _try(bank, others, on_conflict)) is not None:
                return merged
    raise ContendedError(f"{bank.folder.uri} changed under each of {ATTEMPTS} attempts to merge into it: try again")


def _try(bank: Bank, others: Sequence[Bank], rule: str) -> Merged | None:
    """None where another writer came first."""
    before, contest = bank.count(), Contest(rule)
    for each in (bank, *others):
        contest.enter(each)
    forgotten = _leave_forgotten(bank, others, contest)
    actions = _actions(bank, others, contest)
    records = carried(bank, others)
    score = contest.score
    if actions or records:
        records += marks(bank, others, rewritten=bool(score.same or score.conflicts))
        brought = contest.count_brought()
        noted = {"merged_banks": len(others), "documents": brought, "replaced": score.replaced}
        if not swap(bank, actions, noted, records):
            return None
    return Merged(
        bank=bank.folder.uri,
        version=bank.version,
        banks=len(others),
        brought=contest.count_brought(),
        same=score.same,
        conflicts=score.conflicts,
        replaced=score.replaced,
        forgotten=forgotten,
        chunks_before=before,
        chunks=bank.count(),
    )


def _leave_forgotten(bank: Bank, others: Sequence[Bank], contest: Contest) -> int:
    """What one of the banks has forgotten the merged one has forgotten: how many documents leave, or stay out."""
    tombstones = [each.forgotten() for each in (bank, *others) if len(each.forgotten())]
    left = set[str]()
    for origin in range(1 + len(others)) if tombstones else ():
        ids = list(contest.staying(origin))
        gone = {doc_id for each in tombstones for doc_id in each.among(ids)}
        contest.leave_out(origin, gone)
        left |= gone
    return len(left)


def _actions(bank: Bank, others: Sequence[Bank], contest: Contest) -> list[AddAction | RemoveAction]:
    """What is replaced out, what is new in. The files that come in lie in the bank by then."""
    removed, kept = without_documents(bank, contest.leaving(0))
    for origin, other in enumerate(others, start=1):
        if next(contest.staying(origin), None) is not None:
            kept += _brought(bank, other, contest.leaving(origin))
    return [*remove_actions(removed), *add_actions(kept)]


def _brought(bank: Bank, other: Bank, leaving: set[str]) -> list[WrittenFile]:
    """The other bank's files in this one, without the documents `leaving`."""
    if set(bank.schema.names) - set(other.schema.names) - set(ADDED):
        return list(_written_anew(bank, other, leaving))
    touched, rewritten = without_documents(other, leaving, bank.writer())
    files = [file for path, file in live(other.table).items() if path not in touched]
    there = bank.folder.sizes(file.path for file in files)
    lacking = [file for file in files if there[file.path] != file.size]
    with ThreadPoolExecutor(COPIES) as pool:
        list(pool.map(lambda file: _copy(other, bank, file.path), lacking))
    return [*files, *rewritten]


def _written_anew(bank: Bank, other: Bank, leaving: set[str]) -> Iterator[WrittenFile]:
    """With null in the columns that the other bank has not."""
    staying = ~is_of(leaving) if leaving else None
    for fragment in other.dataset().get_fragments(staying):
        label = KEPT if leaving else unit_of(fragment.path) or KEPT
        yield from rewritten(other, fragment, staying, label, bank.writer())


def _copy(source: Bank, target: Bank, path: str) -> None:
    with source.folder.filesystem.open_input_file(path) as file:
        target.folder.put(path, file.read_buffer())


def _require_mergeable(bank: Bank, others: Sequence[Bank]) -> None:
    """Raises Refusal for a bank named twice, another codec's rows, columns that the bank has not."""
    uris = [bank.folder.uri]
    for other in others:
        if other.folder.uri in uris:
            raise Refusal(f"{other.folder.uri} is named twice: a bank cannot be merged into itself")
        uris.append(other.folder.uri)
        _require_codec(bank, other)
        _require_columns(bank, other)


def _require_codec(bank: Bank, other: Bank) -> None:
    if differing := bank.identity.differing(other.identity):
        sides = "; ".join(
            f"{name}: {getattr(bank.identity, name)!r} and {getattr(other.identity, name)!r}" for name in differing
        )
        raise Refusal(
            f"{bank.folder.uri} and {other.folder.uri} hold rows of two codecs ({sides}): `nextmem migrate` makes a "
            "bank of one codec's rows out of another's"
        )


def _require_columns(bank: Bank, other: Bank) -> None:
    ours = {field.name: field.type for field in bank.metadata_fields}
    for field in other.metadata_fields:
        if ours.get(field.name) != field.type:
            held = f"{ours[field.name]} there" if field.name in ours else "not there"
            raise Refusal(
                f"{other.folder.uri} has the metadata column {field.name!r} ({field.type}), which is {held} in "
                f"{bank.folder.uri}: merge into the bank that has every column"
            )
