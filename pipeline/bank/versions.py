"""Which versions of a bank can still be opened, and which one was the newest at a time.

A version is kept as long as the log reaches back to it and its files lie there. `nextmem tend` removes files that only
versions of a week ago need, and the log's own entries after a month.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime

from model.refusal import Missing, Refusal
from pipeline.bank.bank import Bank
from pipeline.bank.transaction_log import LOG, committed_at
from pipeline.storage.folder import Folder

ENTRY = re.compile(rf"{LOG}/(\d{{20}})\.(json|checkpoint\b.*parquet)")


def kept_versions(folder: Folder) -> range:
    """Those that the log reaches back to, the oldest first. Their files may be gone all the same."""
    entries = [found for name in folder.names(LOG) if (found := ENTRY.fullmatch(name))]
    commits = {int(found[1]) for found in entries if found[2] == "json"}
    checkpoints = {int(found[1]) for found in entries if found[2] != "json"}
    newest = first = max(commits)
    while first - 1 in commits:
        first -= 1
    if first > 0 and first - 1 not in checkpoints:
        first = min((at for at in checkpoints if at >= first), default=newest)
    return range(first, newest + 1)


def open_version(uri: str, *, version: int | None = None, time: datetime | str | None = None) -> Bank:
    """The bank at one of its versions, or as it was at a time (ISO 8601; UTC where no zone is named).

    Raises Refusal for a version or a time that lies ahead, Missing for one that was cleaned.
    """
    if version is not None and time is not None:
        raise Refusal("give a version or a time, not both")
    newest = Bank.open(uri)
    kept = kept_versions(newest.folder)
    wanted = version_at(newest.folder, kept, time) if version is None else version
    if wanted == newest.version:
        return newest
    _require_kept(newest, kept, wanted)
    bank = Bank.open(uri, version=wanted)
    require_files(bank, bank.files())
    return bank


def version_at(folder: Folder, kept: range, time: datetime | str | None) -> int:
    """The newest of the kept versions at or before the time, by the clocks of those who wrote them."""
    if time is None:
        return kept[-1]
    asked = _moment(time)
    if asked > datetime.now(UTC):
        raise Refusal(f"{asked.isoformat()} lies in the future: give a time that has passed")
    count = bisect_right(kept, asked, key=lambda at: _time_of(folder, at))
    if not count:
        began = _time_of(folder, kept[0]).isoformat(timespec="seconds")
        raise Missing(
            f"{folder.uri} has no version of {asked.isoformat()}: the oldest that is kept, {kept[0]}, is of {began}"
        )
    return kept[count - 1]


def require_files(bank: Bank, files: list[str]) -> None:
    """Raises Missing where files of this version do not lie in the bank any more."""
    there = set(bank.folder.names())
    gone = [name for name in files if name not in there]
    if gone:
        raise Missing(
            f"version {bank.version} of {bank.folder.uri} was cleaned: {len(gone):,} of its files are gone "
            f"({gone[0]}{', ...' if len(gone) > 1 else ''}), removed by `nextmem tend`. `nextmem history` shows which "
            "versions there are"
        )


def _require_kept(bank: Bank, kept: range, version: int) -> None:
    uri, newest = bank.folder.uri, kept[-1]
    if version > newest:
        raise Refusal(f"{uri} has no version {version} yet: its newest is {newest}. `nextmem history` lists them")
    if version < 0:
        raise Refusal(f"version {version} cannot be: {uri} has {kept[0]} to {newest}")
    if version not in kept:
        raise Missing(
            f"version {version} of {uri} was cleaned: its log reaches back to version {kept[0]}, the newest is "
            f"{newest}. `nextmem history` lists them"
        )


def _moment(time: datetime | str) -> datetime:
    try:
        found = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        raise Refusal(f"{time!r} is no time: wanted ISO 8601, such as 2026-01-31 or 2026-01-31T18:00+01:00") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _time_of(folder: Folder, version: int) -> datetime:
    return datetime.fromtimestamp(committed_at(folder, version) / 1000, UTC)
