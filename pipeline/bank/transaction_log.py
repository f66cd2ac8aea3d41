"""Which work units are finished: the transaction log holds one application transaction `unit/<id>` for each.

delta-rs answers for one id at a time, in 1 ms on a small log and 3 ms beside 10,000 units. For many ids the log itself
is read instead, as the Delta protocol lays it out: the newest checkpoint's `txn` column, then the commits after it.
That costs 40 ms for 10,000 units, and its memory is one column of the checkpoint.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction

from pipeline.storage.folder import Folder

LOG = "_delta_log"
TROUBLES = 3  # puts of a commit in a row that an object store may fail, each with its requests' own retries
FEW = 16
HELD_FROM = 2  # version of a unit's transaction: this and the documents it brought; 1 where that was not noted
AGAIN = r"-r[0-9]+$"  # how the id ends of a unit whose rejected documents were tried again
REPLACED = "nextmem/replaced"
LOST = "nextmem/lost"
FORGOTTEN = "nextmem/forgotten"
NOTED = pa.schema({"appId": pa.string(), "version": pa.int64()})
MARK = "nextmem.mark"  # of a commit, by which its writer knows it again
SUMMARY = "nextmem"  # of a commit, what it notes of itself for people


def unit_transaction(unit_id: str, documents: int) -> Transaction:
    """The record that a unit is finished, and how many documents it brought."""
    return Transaction(_app(unit_id), HELD_FROM + documents)


def list_transaction(name: str) -> Transaction:
    """The record that a list of rejected documents counts: of all writers of its unit, this one's was committed."""
    return Transaction(_list(name), 1)


def replacements(table: DeltaTable) -> int:
    """How many commits have replaced documents."""
    return table.transaction_version(REPLACED) or 0


def replacement_transaction(*tables: DeltaTable) -> Transaction:
    """The record of one more than any of these tables has, for a commit on one of them."""
    return Transaction(REPLACED, max(map(replacements, tables)) + 1)


def losses(table: DeltaTable) -> int:
    """How many commits have taken out files that could not be read."""
    return table.transaction_version(LOST) or 0


def loss_transaction(*tables: DeltaTable) -> Transaction:
    """The record of one more than any of these tables has, for a commit on one of them."""
    return Transaction(LOST, max(map(losses, tables)) + 1)


def forgotten_at(table: DeltaTable) -> int:
    """The version that last changed what is forgotten; 0 where none ever did."""
    return table.transaction_version(FORGOTTEN) or 0


def forgotten_transactions(name: str, version: int) -> list[Transaction]:
    """The record that a list of tombstones counts from this version on, which is the one that its commit makes."""
    return [Transaction(_tombstones(name), version), Transaction(FORGOTTEN, version)]


def forgotten_lists(folder: Folder, table: DeltaTable, names: list[str]) -> dict[str, int]:
    """Those of the given lists of tombstones that count, and since which version."""
    if len(names) > FEW:
        with suppress(FileNotFoundError):
            noted = pa.Table.from_batches(_transactions(folder, table.version()), NOTED)
            found = noted.filter(pc.is_in(noted["appId"], pa.array(map(_tombstones, names), pa.string()))).to_pydict()
            return {app.partition("/")[2]: at for app, at in zip(found["appId"], found["version"], strict=True)}
    asked = {name: table.transaction_version(_tombstones(name)) for name in names}
    return {name: at for name, at in asked.items() if at is not None}


def is_finished(table: DeltaTable, unit_id: str) -> bool:
    return table.transaction_version(_app(unit_id)) is not None


def finished_units(folder: Folder, table: DeltaTable, unit_ids: list[str]) -> set[str]:
    """Those of the given units that this version of the table holds."""
    return {_unit(app) for app in _recorded(folder, table, [_app(unit_id) for unit_id in unit_ids])}


def committed_lists(folder: Folder, table: DeltaTable, names: list[str]) -> set[str]:
    """Those of the given lists of rejected documents that count."""
    return {app.partition("/")[2] for app in _recorded(folder, table, [_list(name) for name in names])}


def finished_documents(folder: Folder, table: DeltaTable, unit_ids: list[str] | None) -> dict[str, int | None]:
    """How many documents each finished unit brought, of all or of those given; None where that was not noted.

    What was brought when its rejected documents were tried again is counted with it. Raises FileNotFoundError for a log
    only delta-rs can read.
    """
    found: dict[str, int | None] = {}
    wanted = None if unit_ids is None else pa.array([_app(unit_id) for unit_id in unit_ids], pa.string())
    for noted in _transactions(folder, table.version()):
        apps = pc.replace_substring_regex(noted.column("appId"), AGAIN, "")
        mask = pc.starts_with(apps, _app("")) if wanted is None else pc.is_in(apps, wanted)
        chosen = noted.filter(mask)
        for base, app, version in zip(apps.filter(mask).to_pylist(), *chosen.to_pydict().values(), strict=True):
            brought = version - HELD_FROM if version >= HELD_FROM else None
            found[_unit(base)] = _sum(found.get(_unit(base), 0), brought)
            if wanted is None and app != base:
                found[_unit(app)] = brought
    return found


def all_finished(folder: Folder, table: DeltaTable) -> set[str]:
    """Every unit that this version holds. Raises FileNotFoundError for a log only delta-rs can read."""
    units: set[str] = set()
    for noted in _transactions(folder, table.version()):
        units.update(_unit(app) for app in noted.column("appId").to_pylist() if app.startswith(_app("")))
    return units


def unit_records(folder: Folder, table: DeltaTable) -> dict[str, int]:
    """Every record that a unit is finished, and that a list of rejected documents counts: application id to version.

    Raises FileNotFoundError for a log only delta-rs can read.
    """
    found: dict[str, int] = {}
    for noted in _transactions(folder, table.version()):
        for app, version in zip(*noted.to_pydict().values(), strict=True):
            if app.startswith((_app(""), _list(""))):
                found[app] = version
    return found


def committed_at(folder: Folder, version: int) -> int:
    """When a version was committed, in milliseconds since the epoch, by its writer's clock."""
    return _commit_info(folder, version)["timestamp"]


def holds_mark(folder: Folder, version: int, mark: str) -> bool:
    """Whether a version was committed under this mark."""
    return _commit_info(folder, version).get(MARK) == mark


def _commit_info(folder: Folder, version: int) -> dict:
    actions = (json.loads(line) for line in folder.read(f"{LOG}/{version:020d}.json").splitlines())
    return next(action["commitInfo"] for action in actions if "commitInfo" in action)


def _app(unit_id: str) -> str:
    return f"unit/{unit_id}"


def _tombstones(name: str) -> str:
    return f"forgotten/{name}"


def _list(name: str) -> str:
    return f"rejected/{name}"


def _unit(app: str) -> str:
    return app.removeprefix(_app(""))


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _recorded(folder: Folder, table: DeltaTable, apps: list[str]) -> set[str]:
    """Those of the application ids that this version of the table holds."""
    if len(apps) > FEW:
        try:
            held = pa.chunked_array([t.column("appId") for t in _transactions(folder, table.version())], pa.string())
            return set(held.filter(pc.is_in(held, pa.array(apps, pa.string()))).to_pylist())
        except FileNotFoundError:
            pass  # a checkpoint in several parts, or commits cleaned away: delta-rs can read those, we ask it
    return {app for app in apps if table.transaction_version(app) is not None}


def _transactions(folder: Folder, version: int) -> Iterator[pa.RecordBatch]:
    """Every application id (`appId`) in the log up to a version, and its `version`, in parts. An id may come twice."""
    names = set(folder.names(LOG))
    done = max((at for at in range(version, -1, -1) if _checkpoint(at) in names), default=-1)
    if done >= 0:
        yield from _of_checkpoint(folder, _checkpoint(done))
    for commit in folder.read_all(f"{LOG}/{at:020d}.json" for at in range(done + 1, version + 1)):
        yield _of_commit(commit)


def _checkpoint(version: int) -> str:
    return f"{LOG}/{version:020d}.checkpoint.parquet"


def _of_checkpoint(folder: Folder, name: str) -> Iterator[pa.RecordBatch]:
    with folder.filesystem.open_input_file(name) as source:
        for batch in pq.ParquetFile(source).iter_batches(columns=["txn.appId", "txn.version"]):
            noted = batch.column("txn").drop_null()
            yield _noted(pc.struct_field(noted, "appId"), pc.struct_field(noted, "version"))


def _of_commit(commit: bytes) -> pa.RecordBatch:
    actions = (json.loads(line) for line in commit.splitlines() if b'"txn"' in line)
    noted = [action["txn"] for action in actions if "txn" in action]
    return _noted(pa.array([txn["appId"] for txn in noted]), pa.array([txn["version"] for txn in noted]))


def _noted(apps: pa.Array, versions: pa.Array) -> pa.RecordBatch:
    return pa.record_batch([apps.cast(pa.string()), versions.cast(pa.int64())], NOTED)
