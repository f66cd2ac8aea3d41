"""Which work units are finished: the transaction log holds one application transaction `unit/<id>` for each.

delta-rs answers for one id at a time, in 1 ms on a small log and 3 ms beside 10,000 units. For many ids the log itself
is read instead, as the Delta protocol lays it out: the newest checkpoint's `txn` column, then the commits after it.
That costs 40 ms for 10,000 units, and its memory is one column of the checkpoint.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Transaction

from pipeline.folder import Folder

LOG = "_delta_log"
FEW = 16
REPLACED = "nextmem/replaced"
LOST = "nextmem/lost"


def unit_transaction(unit_id: str) -> Transaction:
    return Transaction(_app(unit_id), 1)


def replacements(table: DeltaTable) -> int:
    """How many commits have replaced documents."""
    return table.transaction_version(REPLACED) or 0


def replacement_transaction(table: DeltaTable) -> Transaction:
    """The record of one more, for the commit that makes the next version of this table."""
    return Transaction(REPLACED, replacements(table) + 1)


def losses(table: DeltaTable) -> int:
    """How many commits have taken out files that could not be read."""
    return table.transaction_version(LOST) or 0


def loss_transaction(table: DeltaTable) -> Transaction:
    """The record of one more, for the commit that makes the next version of this table."""
    return Transaction(LOST, losses(table) + 1)


def is_finished(table: DeltaTable, unit_id: str) -> bool:
    return table.transaction_version(_app(unit_id)) is not None


def finished_units(folder: Folder, table: DeltaTable, unit_ids: list[str]) -> set[str]:
    """Those of the given units that this version of the table holds."""
    if len(unit_ids) > FEW:
        try:
            apps = pa.chunked_array(_apps(folder, table.version()), pa.string())
            wanted = pa.array([_app(unit_id) for unit_id in unit_ids], pa.string())
            return {_unit(app) for app in apps.filter(pc.is_in(apps, wanted)).to_pylist()}
        except FileNotFoundError:
            pass  # a checkpoint in several parts, or commits cleaned away: delta-rs can read those, we ask it
    return {unit_id for unit_id in unit_ids if is_finished(table, unit_id)}


def all_finished(folder: Folder, table: DeltaTable) -> set[str]:
    """Every unit that this version holds. Raises FileNotFoundError for a log only delta-rs can read."""
    units: set[str] = set()
    for apps in _apps(folder, table.version()):
        units.update(_unit(app) for app in apps.to_pylist() if app.startswith(_app("")))
    return units


def committed_at(folder: Folder, version: int) -> int:
    """When a version was committed, in milliseconds since the epoch, by its writer's clock."""
    actions = (json.loads(line) for line in folder.read(f"{LOG}/{version:020d}.json").splitlines())
    return next(action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action)


def _app(unit_id: str) -> str:
    return f"unit/{unit_id}"


def _unit(app: str) -> str:
    return app.removeprefix(_app(""))


def _apps(folder: Folder, version: int) -> Iterator[pa.Array]:
    """Every application id in the log up to a version, in parts. An id may come twice."""
    names = set(folder.names(LOG))
    done = max((at for at in range(version, -1, -1) if _checkpoint(at) in names), default=-1)
    if done >= 0:
        yield from _checkpoint_apps(folder, _checkpoint(done))
    for commit in folder.read_all(f"{LOG}/{at:020d}.json" for at in range(done + 1, version + 1)):
        yield _commit_apps(commit)


def _checkpoint(version: int) -> str:
    return f"{LOG}/{version:020d}.checkpoint.parquet"


def _checkpoint_apps(folder: Folder, name: str) -> Iterator[pa.Array]:
    with folder.filesystem.open_input_file(name) as source:
        for batch in pq.ParquetFile(source).iter_batches(columns=["txn.appId"]):
            yield pc.struct_field(batch.column("txn"), "appId").drop_null().cast(pa.string())


def _commit_apps(commit: bytes) -> pa.Array:
    actions = (json.loads(line) for line in commit.splitlines() if b'"txn"' in line)
    return pa.array([action["txn"]["appId"] for action in actions if "txn" in action], pa.string())
