"""Documents that could not be encoded: one JSON Lines file a work unit, in `_rejected/` beside the table.

A list is named by its unit and its content, written before the unit is committed, and counts once a commit names it. So
whatever another writer of the unit made of it, or a list that was never committed, says nothing and changes nothing.
Lists of an older nextmem are named by their unit alone, and count once it is finished.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass

from pipeline.bank import transaction_log as log
from pipeline.bank.bank import REJECTED, Bank
from pipeline.bank.unit_file import require_unit_id
from pipeline.corpus.documents import ENCODER, READER, Again, Rejected
from pipeline.storage.folder import Folder

SUFFIX = ".jsonl"
BY_CONTENT = re.compile(r"(?P<unit>.+)\.[0-9a-f]{32}")
OF_OLD = "encoding it "  # how reasons begin of what encoders rejected before lists said who did


def write_rejected(folder: Folder, unit_id: str, documents: Sequence[Rejected]) -> str | None:
    """The unit's whole list; its name, for the receipt. No documents, no file, and None."""
    require_unit_id(unit_id)
    if not documents:
        return None
    content = "".join(json.dumps(asdict(document)) + "\n" for document in documents).encode()
    name = f"{unit_id}.{hashlib.blake2b(content, digest_size=16).hexdigest()}"
    folder.put(f"{REJECTED}/{name}{SUFFIX}", content)
    return name


def rejected(bank: Bank) -> Iterator[Rejected]:
    """What the bank's finished units left out, unit by unit, but for documents that were tried again since."""
    for _, document in _standing(bank):
        yield document


def list_names(bank: Bank) -> list[str]:
    """Of the lists that count."""
    return [name for _, name in _counting(bank)]


def to_try_again(bank: Bank) -> dict[str, Again]:
    """What encoders left out, by unit: a mended codec or machine may take it."""
    found: dict[str, Again] = {}
    for unit_id, document in _standing(bank):
        if document.by == ENCODER and document.doc_id is not None:
            base, number = _parts(unit_id)
            found.setdefault(base, Again(number + 1)).doc_ids.add(document.doc_id)
    return found


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Lists without some documents, written and not committed yet."""

    documents: int  # left out
    lists: tuple[str, ...]  # that take the place of others, for `list_transaction`
    needless: tuple[str, ...]  # files that may go once those are committed: replaced, or never committed


def without_rejected(bank: Bank, among: Callable[[list[str]], Container[str]], *, dry_run: bool = False) -> Rewritten:
    """Every list that names documents which `among` picks out of their ids, less these. A dry run writes nothing."""
    lists, needless, documents = [], _uncommitted(bank), 0
    for unit_id, name in _counting(bank):
        file = f"{REJECTED}/{name}{SUFFIX}"
        found = [_document(json.loads(line)) for line in bank.folder.read(file).splitlines()]
        gone = among([each.doc_id for each in found if each.doc_id is not None])
        staying = [each for each in found if each.doc_id is None or each.doc_id not in gone]
        if len(staying) == len(found):
            continue
        documents += len(found) - len(staying)
        needless.append(file)
        if staying and not dry_run:
            lists.append(write_rejected(bank.folder, unit_id, staying))
    return Rewritten(documents, tuple(lists), tuple(needless))


def _uncommitted(bank: Bank) -> list[str]:
    counting = {f"{REJECTED}/{name}{SUFFIX}" for _, name in _counting(bank)}
    return [name for name in bank.folder.names(REJECTED) if name not in counting]


def _standing(bank: Bank) -> Iterator[tuple[str, Rejected]]:
    """(unit, document) of every list that counts. Of a unit that was tried again, encoders' latest alone."""
    latest: dict[str, int] | None = None
    for unit_id, name in _counting(bank):
        for line in bank.folder.read(f"{REJECTED}/{name}{SUFFIX}").splitlines():
            document = _document(json.loads(line))
            if document.by == ENCODER:
                latest = _latest(bank) if latest is None else latest
                base, number = _parts(unit_id)
                if number < latest.get(base, 0):
                    continue
            yield unit_id, document


def _counting(bank: Bank) -> list[tuple[str, str]]:
    """(unit, list's name) of the lists that count, by name."""
    files = [name for name in bank.folder.names(REJECTED) if name.endswith(SUFFIX)]
    names = [name.rsplit("/", 1)[-1].removesuffix(SUFFIX) for name in files]
    units = {name: found["unit"] for name in names if (found := BY_CONTENT.fullmatch(name))}
    counting = log.committed_lists(bank.folder, bank.table, list(units))
    counting |= bank.finished_units(name for name in names if name not in units)
    return [(units.get(name, name), name) for name in names if name in counting]


def _latest(bank: Bank) -> dict[str, int]:
    """The number of each unit's latest attempt at what was left out."""
    found: dict[str, int] = {}
    for unit_id in bank.finished_units():
        base, number = _parts(unit_id)
        if number:
            found[base] = max(number, found.get(base, 0))
    return found


def _parts(unit_id: str) -> tuple[str, int]:
    """(the unit as planned, the number of the attempt at what it left out)."""
    again = re.search(log.AGAIN, unit_id)
    return (unit_id[: again.start()], int(again[0][2:])) if again else (unit_id, 0)


def _document(record: dict) -> Rejected:
    if "by" not in record:
        record["by"] = ENCODER if record["reason"].startswith(OF_OLD) else READER
    return Rejected(**record)
