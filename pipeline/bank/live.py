"""The files that a version of a bank consists of, with all that another commit needs to name them."""

from __future__ import annotations

import json

import pyarrow as pa
from deltalake import DeltaTable

from pipeline.bank.unit_file import WrittenFile, iso

STATISTICS = {"min": "minValues", "max": "maxValues", "null_count": "nullCount"}  # delta-rs' names to the protocol's


def live(table: DeltaTable) -> dict[str, WrittenFile]:
    """Each live file by its path."""
    actions = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    return {action["path"]: _file(action) for action in actions}


def _file(action: dict) -> WrittenFile:
    records = action["num_records"]
    stats = {"numRecords": records}
    for name, column in STATISTICS.items():
        stats[column] = {key: value for key, value in (action.get(name) or {}).items() if value is not None}
    return WrittenFile(action["path"], action["size_bytes"], records, json.dumps(stats, default=iso))
