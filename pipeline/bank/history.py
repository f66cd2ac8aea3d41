"""What was done to a bank, version by version, as its log tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.bank.bank import Bank
from pipeline.bank.live import live
from pipeline.bank.transaction_log import LOG, SUMMARY
from pipeline.bank.versions import kept_versions

DONE = {  # a key of what a commit notes of itself: what was done
    "units": "encode",
    "refined_rows": "refine",
    "forgotten_documents": "forget",
    "brought_back_documents": "undo",
    "erased_rejected": "tend",
    "deleted_documents": "delete",
    "dropped_files": "repair",
    "restored_version": "restore",
    "merged_banks": "merge",
    "carried_from": "migrate",
}
OPERATIONS = {"CREATE TABLE": "make", "OPTIMIZE": "tend", "ADD COLUMN": "add a column"}  # of delta-rs' own commits
DOCUMENTS = ("documents", "forgotten_documents", "brought_back_documents", "deleted_documents")  # as commits note them


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a bank. Versions are counted from 0, the empty bank."""

    version: int
    time: datetime  # UTC, by its writer's clock
    done: str  # encode, refine, forget, ...; the log's own word for what is none of ours
    documents: int | None  # that this commit brought or took away; None where it noted none
    chunks: int  # in the bank, from this version on
    change: int  # chunks more or fewer than before; of the oldest that is kept, all
    noted: dict[str, object]  # whatever the commit says of itself


def history(bank: Bank) -> Iterator[Version]:
    """The versions that the log reaches back to, the oldest first, up to this bank's. Reads the log alone."""
    kept = [at for at in kept_versions(bank.folder) if at <= bank.version]
    first = Bank.open(bank.folder.uri, version=kept[0])
    records = {path: file.num_records for path, file in live(first.table).items()}
    before = 0
    for at, entry in zip(kept, bank.folder.read_all(f"{LOG}/{at:020d}.json" for at in kept), strict=True):
        actions = [json.loads(line) for line in entry.splitlines()]
        if at != kept[0]:
            _replay(actions, records)
        chunks = sum(records.values())
        yield _version(at, next(each["commitInfo"] for each in actions if "commitInfo" in each), chunks, before)
        before = chunks


def _replay(actions: list[dict], records: dict[str, int]) -> None:
    """What a commit makes of {file: chunks}."""
    for action in actions:
        if "remove" in action:
            records.pop(action["remove"]["path"], None)
    for action in actions:
        if "add" in action:
            records[action["add"]["path"]] = json.loads(action["add"]["stats"])["numRecords"]


def _version(at: int, commit: dict, chunks: int, before: int) -> Version:
    noted = commit.get(SUMMARY) or {}
    noted = json.loads(noted) if isinstance(noted, str) else noted
    done = noted.get("by") or next((word for key, word in DONE.items() if key in noted), None)
    operation = commit.get("operation", "?")
    return Version(
        version=at,
        time=datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
        done=done or OPERATIONS.get(operation, operation.lower()),
        documents=next((noted[key] for key in DOCUMENTS if key in noted), None),
        chunks=chunks,
        change=chunks - before,
        noted=noted,
    )
