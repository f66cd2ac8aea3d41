"""Documents that could not be encoded: one JSON Lines file a work unit, in `_rejected/` beside the table.

A unit's list is written before the unit is committed and read only once it is: a list of a unit that never finished
says nothing. A rerun of the unit overwrites it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from pipeline.bank import REJECTED, Bank
from pipeline.documents import Rejected
from pipeline.folder import Folder
from pipeline.unit_file import require_unit_id

SUFFIX = ".jsonl"


def write_rejected(folder: Folder, unit_id: str, documents: Sequence[Rejected]) -> None:
    """The unit's whole list, in place of an earlier one; no documents, no file."""
    require_unit_id(unit_id)
    name = f"{REJECTED}/{unit_id}{SUFFIX}"
    if documents:
        lines = (json.dumps(asdict(document)) + "\n" for document in documents)
        folder.put(name, "".join(lines).encode())
    else:
        folder.remove(name)


def rejected(bank: Bank) -> Iterator[Rejected]:
    """What the bank's finished units left out, unit by unit."""
    names = [name for name in bank.folder.names(REJECTED) if name.endswith(SUFFIX)]
    units = {name: name.rsplit("/", 1)[-1].removesuffix(SUFFIX) for name in names}
    finished = bank.finished_units(units.values())
    for name in names:
        if units[name] in finished:
            yield from (Rejected(**json.loads(line)) for line in bank.folder.read(name).splitlines())
