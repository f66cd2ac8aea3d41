"""`nextmem migrate`: a bank's documents, recalled exactly, encoded anew by another codec into another bank.

An encode job whose corpus is a bank. What the new bank lacks at its end is named; only where it lacks nothing does it
take over the records of finished units, so that a rerun of the corpus encodes what is missing and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jobs.encode.encode import EncodeResult, run_encode
from jobs.encode.progress import EncodeProgress
from jobs.encode.request import EncodeRequest, existing_bank
from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.carry import carry
from pipeline.bank.diff import ADDED, Diff
from pipeline.bank.opened import open_bank
from pipeline.storage import storage

NAMED = 5  # documents that are missing


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """How the job ended, and what the new bank has of the old one."""

    encoded: EncodeResult
    source: str
    documents: int  # of the old bank, that the new one holds with the same hash
    lacking: int  # that it does not
    named: tuple[str, ...]  # the first of those
    records: int  # of finished units, taken over now

    @property
    def complete(self) -> bool:
        return self.encoded.complete and not self.lacking


def run_migrate(
    request: EncodeRequest,
    *,
    on_progress: Callable[[EncodeProgress], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> MigrateResult:
    """Bring the documents of the bank `request.source` into `request.bank`. The same request again goes on.

    Without a codec or a backbone it is the new bank's codec where that is there, else the old one's. Raises what
    `run_encode` raises.
    """
    source = open_bank(request.source)
    if storage.absolute(request.bank) == source.folder.uri:
        raise Refusal(f"{source.folder.uri} cannot be migrated into itself: name a new folder")
    request = replace(request, source=source.folder.uri)
    if request.codec is None and request.backbone is None and existing_bank(storage.absolute(request.bank)) is None:
        request = replace(request, codec=source.codec_path)
    encoded = run_encode(request, on_progress=on_progress, say=say)
    bank = open_bank(encoded.bank)
    return _compared(encoded, open_bank(request.source), bank)


def _compared(encoded: EncodeResult, source: Bank, bank: Bank) -> MigrateResult:
    """Every document by its hash, but for those that the new bank has forgotten."""
    missing = [each.doc_id for each in Diff(source, bank) if each.change != ADDED]
    forgotten = bank.forgotten().among(missing)
    lacking = [doc_id for doc_id in missing if doc_id not in forgotten]
    records = 0 if lacking else carry(bank, source)
    held = sum(1 for _ in source.documents()) - len(missing)
    return MigrateResult(encoded, source.folder.uri, held, len(lacking), tuple(lacking[:NAMED]), records)
