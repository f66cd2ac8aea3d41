"""Tombstones: which documents a bank was told to forget, so that no later job brings one back.

A list of them is a JSON file `_forgotten/<hash of its content>.json` beside the table, written before the commit that
takes the rows out, and counts once that commit names it: a list whose writer died says nothing. Lists are in the order
of the versions that named them. One forgets documents or lifts their tombstones; each names the list before it, so
that a list which is lost is noticed; one that names none stands for all before it.

A tombstone is a keyed hash of the document's id and not the id, which is to be gone. The key is the table's own, so
nobody reads ids off a list or finds one document's in two banks. Who holds the bank and guesses an id can test the
guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deltalake import DeltaTable, Transaction

from model.refusal import Refusal
from pipeline.bank import transaction_log as log
from pipeline.storage.folder import Folder

if TYPE_CHECKING:
    from pipeline.bank.bank import Bank

FORGOTTEN, SUFFIX = "_forgotten", ".json"
Hashes = Mapping[str, Collection[bytes]]  # by their key, 16 bytes each


@dataclass(frozen=True, slots=True)
class Tombstones:
    """All that stand in one version of a bank."""

    at: dict[str, dict[bytes, int]] = field(default_factory=dict)  # key: {hash of an id: the version that forgot it}
    changed: int = 0  # the version that last changed them
    newest: str | None = None  # name of the list that it brought

    def __len__(self) -> int:
        return sum(map(len, self.at.values()))

    def among(self, doc_ids: Iterable[str]) -> dict[str, int]:
        """Those of the ids that are forgotten, and the version that forgot each."""
        return {doc_id: at for doc_id in doc_ids if (at := self._at(doc_id)) is not None}

    def of(self, doc_ids: Collection[str]) -> Hashes:
        """The tombstones of these documents."""
        found = {key: {hashed for each in doc_ids if (hashed := _hash(key, each)) in at} for key, at in self.at.items()}
        return {key: hashes for key, hashes in found.items() if hashes}

    def since(self, version: int) -> Hashes:
        """The tombstones that this version brought."""
        return {key: {hashed for hashed, at in ats.items() if at == version} for key, ats in self.at.items()}

    def _at(self, doc_id: str) -> int | None:
        return next((at for key, ats in self.at.items() if (at := ats.get(_hash(key, doc_id))) is not None), None)


def read_tombstones(folder: Folder, table: DeltaTable) -> Tombstones:
    """As of this version of the table. Raises Refusal where a list is gone that the log names."""
    changed = log.forgotten_at(table)
    if not changed:
        return Tombstones()
    at, last = dict[str, dict[bytes, int]](), None
    for name, version, said in _standing(folder, table):
        if said["after"] not in (None, last):
            break
        at, last = at if said["after"] else {}, name
        for key, hashes in said["documents"].items():
            known = at.setdefault(key, {})
            for hashed in map(bytes.fromhex, hashes):
                known.pop(hashed, None)
                known |= {hashed: version} if said["forgets"] else {}
    else:
        if last is not None and version == changed:
            return Tombstones(at, changed, last)
    raise Refusal(
        f"{folder.uri}/{FORGOTTEN} lacks a list that the bank's log names, so documents that were forgotten might come "
        "back: copy the folder whole from where the bank came from"
    )


def forgetting(bank: Bank, doc_ids: Collection[str]) -> list[Transaction]:
    """Write the tombstones of these documents; what makes them count, for the commit of the bank's next version."""
    key = bank.table.metadata().id
    return _written(bank, {key: {_hash(key, doc_id) for doc_id in doc_ids}}, forgets=True)


def lifting(bank: Bank, doc_ids: Collection[str]) -> list[Transaction]:
    """The same to lift these documents' tombstones, with the commit that brings the documents; [] where none has one.

    `Receipt.lifts` (pipeline/bank/commit.py) does it for a receipt that is committed.
    """
    hashes = bank.forgotten().of(doc_ids)
    return lifting_hashes(bank, hashes) if hashes else []


def lifting_hashes(bank: Bank, hashes: Hashes) -> list[Transaction]:
    """The same for tombstones whose documents' ids nobody knows any more."""
    return _written(bank, hashes, forgets=False)


def carrying(source: Bank, bank: Bank) -> list[Transaction]:
    """The same to take over the tombstones of another bank, under its key; [] where it has none."""
    return _written(bank, source.forgotten().at, forgets=True) if len(source.forgotten()) else []


def folding(bank: Bank) -> list[Transaction]:
    """The same to put one list in the place of all; [] where there is none. They may then be removed."""
    return _written(bank, bank.forgotten().at, forgets=True, whole=True) if bank.forgotten().newest else []


def files_but_the_newest(bank: Bank) -> list[str]:
    """Of all lists that lie there, once one stands for all."""
    newest = f"{FORGOTTEN}/{bank.forgotten().newest}{SUFFIX}"
    return [name for name in bank.folder.names(FORGOTTEN) if name != newest]


def _standing(folder: Folder, table: DeltaTable) -> Iterator[tuple[str, int, dict]]:
    """(name, version, content) of the lists that count, in their order, from the last one that stands for all."""
    names = [name.rpartition("/")[2].removesuffix(SUFFIX) for name in folder.names(FORGOTTEN) if name.endswith(SUFFIX)]
    versions = log.forgotten_lists(folder, table, names)
    ordered = sorted(versions, key=versions.__getitem__)
    contents = [json.loads(content) for content in folder.read_all(f"{FORGOTTEN}/{name}{SUFFIX}" for name in ordered)]
    first = max((place for place, said in enumerate(contents) if said["after"] is None), default=0)
    for name, said in list(zip(ordered, contents, strict=True))[first:]:
        yield name, versions[name], said


def _written(bank: Bank, hashes: Hashes, *, forgets: bool, whole: bool = False) -> list[Transaction]:
    documents = {key: sorted(each.hex() for each in found) for key, found in hashes.items()}
    after, version = None if whole else bank.forgotten().newest, bank.version + 1
    content = json.dumps({"version": version, "after": after, "forgets": forgets, "documents": documents}).encode()
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    bank.folder.put(f"{FORGOTTEN}/{name}{SUFFIX}", content)
    return log.forgotten_transactions(name, version)


def _hash(key: str, doc_id: str) -> bytes:
    return hashlib.blake2b(doc_id.encode(), key=key.encode(), digest_size=16).digest()
