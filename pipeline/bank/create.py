"""A bank's table, made at once in an empty folder, by one of several jobs that try; and where its codec lies."""

from __future__ import annotations

import time

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from model.refusal import Taken
from pipeline.bank.enclosing import refuse_inside_a_table
from pipeline.bank.identity import PREFIX, CodecIdentity
from pipeline.bank.metadata import bank_schema
from pipeline.bank.transaction_log import LOG, TROUBLES
from pipeline.schema import indexed
from pipeline.storage.folder import Folder

CODEC = "_codec"
PLACE = PREFIX + "codec_folder"  # the property that says where in the bank its codec lies
STATISTICS = "delta.dataSkippingStatsColumns"


def require_room(folder: Folder, metadata_fields: tuple[pa.Field, ...]) -> pa.Schema:
    """The schema of a bank that can be made here. Raises Taken, and Refusal for columns that a bank can't hold.

    A bank lives alone: whoever opens the folder as a table, or clears it, must find nothing of anybody else's.
    """
    _ = folder.table_uri  # refuses a place before anything is put there
    if folder.names(LOG):
        raise Taken(f"{folder.uri} is a table already: open it to extend it, or choose another folder.")
    refuse_inside_a_table(folder.uri, "a bank")
    others = [name for name in folder.names() if not name.startswith((".", "_"))]
    if others:
        raise Taken(f"{folder.uri} holds other files ({others[0]}, ...): a bank needs a folder of its own.")
    return bank_schema(metadata_fields)


def make_table(folder: Folder, schema: pa.Schema, identity: CodecIdentity, place: str) -> None:
    """Raises Taken where there is one already, also one that another job makes at this moment."""
    for trouble in range(1, TROUBLES + 1):
        try:
            _create_table(folder, schema, identity, place)
        except OSError:
            if folder.is_local or trouble == TROUBLES:
                raise
            time.sleep(0.5 * trouble)
        if folder.is_local or folder.names(LOG):  # made, although the store's answer may have been lost
            return


def remove_unnamed(folder: Folder, place: str, table: DeltaTable) -> None:
    """The codec copied for a table that another job has made: unless it is the same codec, nobody will read it."""
    if place not in (CODEC, codec_place(table)):
        for name in folder.names(place, recursive=True):
            folder.remove(name)
        folder.remove_folder(place)


def codec_place(table: DeltaTable) -> str:
    """Where in the bank its codec lies; right in `_codec/` in a bank whose log names no place."""
    return table.metadata().configuration.get(PLACE, CODEC)


def _create_table(folder: Folder, schema: pa.Schema, identity: CodecIdentity, place: str) -> None:
    """Version 0 of the log, with one put that delta-rs does not try again where it is reset.

    Without retries: delta-rs would take a table that another job makes at this moment for a conflict to get around, and
    write its own making as version 1 over it. Half of 150 races ended so, with both told that they had made it.
    """
    try:
        DeltaTable.create(
            folder.table_uri,
            schema,
            configuration={**identity.properties(), PLACE: place, STATISTICS: _statistics(schema)},
            storage_options=folder.storage_options,
            commit_properties=CommitProperties(max_commit_retries=0),
            raise_if_key_not_exists=False,  # delta-rs knows no nextmem.* of its own
        )
    except DeltaError as error:
        raise Taken(f"{folder.uri} can't be made a memory bank: {error}. Open it to extend it.") from error


def _statistics(schema: pa.Schema) -> str:
    """The columns of which the log keeps each file's smallest and largest value, and by which readers skip files."""
    return ",".join(f"`{name}`" for name in indexed(schema) if "`" not in name)
