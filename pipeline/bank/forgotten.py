"""Tombstones: which documents a bank was told to forget, so that no later job brings one back.

A list of them is a JSON file `_forgotten/<hash of its content>.json` beside the table, written before the commit that
takes the rows out, and counts once that commit names it: a list whose writer died says nothing. A list forgets
documents or lifts their tombstones. It names the list before it, so one that is lost is noticed; every FOLD-th names
none and stands for all before it, so whoever wants to know reads a few files however often something was forgotten.

A tombstone is a keyed hash of the document's id and not the id, which is to be gone. The key is the table's own, so
nobody reads ids off a list or finds one document's in two banks. Who holds the bank and guesses an id can test the
guess.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
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
FOLD = 64
Hashes = Mapping[str, Collection[bytes]]  # by their key, 16 bytes each


@dataclass(frozen=True, slots=True)
class Tombstones:
    """All that stand in one version of a bank."""

    at: dict[str, dict[bytes, int]] = field(default_factory=dict)  # key: {hash of an id: the version that forgot it}
    changed: int = 0  # the version that last changed them
    newest: str | None = None  # name of the list that it brought
    lists: int = 0  # to be read to know this

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

    def change(self, hashes: Hashes, version: int | None) -> None:
        """Count these as forgotten by this version; None: not any more."""
        for key, changed in hashes.items():
            ats = self.at.setdefault(key, {})
            for hashed in changed:
                if version is None:
                    ats.pop(hashed, None)
                else:
                    ats[hashed] = version

    def _at(self, doc_id: str) -> int | None:
        return next((at for key, ats in self.at.items() if (at := ats.get(_hash(key, doc_id))) is not None), None)


def read_tombstones(folder: Folder, table: DeltaTable) -> Tombstones:
    """As of this version of the table. Raises Refusal where a list is gone that the log names."""
    changed = log.forgotten_at(table)
    if not changed:
        return Tombstones()
    try:
        newest = _newest(folder, table, changed)
        chain = list(_chain(folder, newest))
    except FileNotFoundError:
        raise Refusal(
            f"{folder.uri}/{FORGOTTEN} lacks a list that the bank's log names, so documents that were forgotten might "
            "come back: copy the folder whole from where the bank came from"
        ) from None
    found = Tombstones({}, changed, newest, len(chain))
    for said in reversed(chain):
        for each in said["tombstones"]:
            hashes = map(bytes.fromhex, each["hashes"])
            found.change({each["key"]: list(hashes)}, each["version"] if said["forgets"] else None)
    return found


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


def carrying(bank: Bank, *sources: Bank) -> list[Transaction]:
    """The same to take over the tombstones of other banks, under their keys; [] where this one lacks none."""
    held, lacking = bank.forgotten().at, dict[str, set[bytes]]()
    for source in sources:
        for key, hashes in source.forgotten().at.items():
            lacking.setdefault(key, set()).update(hashes.keys() - held.get(key, {}).keys())
    return _written(bank, lacking, forgets=True) if any(lacking.values()) else []


def folding(bank: Bank) -> list[Transaction]:
    """The same to put one list in the place of all; [] where there is none. They may then be removed."""
    return _written(bank, {}, forgets=True, whole=True) if bank.forgotten().newest else []


def files_but_the_newest(bank: Bank) -> list[str]:
    """Of all lists that lie there, once one stands for all."""
    newest = f"{FORGOTTEN}/{bank.forgotten().newest}{SUFFIX}"
    return [name for name in bank.folder.names(FORGOTTEN) if name != newest]


def _newest(folder: Folder, table: DeltaTable, version: int) -> str:
    """The list that this version brought. Raises FileNotFoundError."""
    names = [name.rpartition("/")[2].removesuffix(SUFFIX) for name in folder.names(FORGOTTEN) if name.endswith(SUFFIX)]
    for name, at in log.forgotten_lists(folder, table, names).items():
        if at == version:
            return name
    raise FileNotFoundError(FORGOTTEN)


def _chain(folder: Folder, name: str | None) -> Iterator[dict]:
    """What a list says, then the one before it, back to one that stands for all. Raises FileNotFoundError."""
    while name is not None:
        yield (said := json.loads(folder.read(f"{FORGOTTEN}/{name}{SUFFIX}")))
        name = said["after"]


def _written(bank: Bank, hashes: Hashes, *, forgets: bool, whole: bool = False) -> list[Transaction]:
    held, version = bank.forgotten(), bank.version + 1
    whole = whole or held.lists >= FOLD
    listed = Tombstones({key: dict(ats) for key, ats in held.at.items()} if whole else {})
    listed.change(hashes, version if forgets or not whole else None)
    after = None if whole else held.newest
    said = {"version": version, "after": after, "forgets": forgets or whole, "tombstones": _groups(listed)}
    content = json.dumps(said).encode()
    name = hashlib.blake2b(content, digest_size=16).hexdigest()
    bank.folder.put(f"{FORGOTTEN}/{name}{SUFFIX}", content)
    return log.forgotten_transactions(name, version)


def _groups(tombstones: Tombstones) -> list[dict]:
    """Hashes of one key and one version together."""
    found = defaultdict[tuple[str, int], list[str]](list)
    for key, ats in tombstones.at.items():
        for hashed, version in ats.items():
            found[key, version].append(hashed.hex())
    return [{"key": key, "version": at, "hashes": sorted(hashes)} for (key, at), hashes in sorted(found.items())]


def _hash(key: str, doc_id: str) -> bytes:
    return hashlib.blake2b(doc_id.encode(), key=key.encode(), digest_size=16).digest()
