"""The memory bank: a Delta Lake table of memory rows. The folder itself is the table; readers need nothing of ours.

    BANK/part-*.parquet   memory rows, one a chunk        BANK/_codec/     the codec that made them, under its hash
    BANK/_delta_log/      which files count, since when   BANK/_rejected/  documents left out and why, one file a unit
                                                          BANK/_plan/      what the encode job planned
                                                          BANK/_forgotten/ tombstones of forgotten documents
Delta readers and vacuum pass over names that begin with an underscore. A Bank object stands on one version of the table
until `reload`. Writing is in pipeline/bank/unit_file.py and pipeline/bank/commit.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, Field
from deltalake.exceptions import TableNotFoundError

from model.refusal import Missing, Refusal
from pipeline.bank import transaction_log as log
from pipeline.bank.create import CODEC, codec_place, make_table, remove_unnamed, require_room
from pipeline.bank.forgotten import Tombstones, read_tombstones
from pipeline.bank.identity import FORMAT_VERSION, PREFIX, CodecIdentity
from pipeline.bank.leave_nothing import leaving_nothing
from pipeline.bank.metadata import require_same_columns
from pipeline.bank.unit_file import UnitWriter, unit_of
from pipeline.schema import ADDED, DOC_HASH, DOC_ID, EDITED_FROM, POSITION, UNIT, metadata_of, row_schema
from pipeline.storage.folder import Folder, folder_hash

REJECTED, PLAN, INDEX = "_rejected", "_plan", "_index"
BATCH_ROWS = 1024  # at D = 4096 a row is 36 KB


class Bank:
    """One version of a memory bank. Made by `Bank.create` and `Bank.open`."""

    def __init__(self, folder: Folder, table: DeltaTable):
        self.folder, self.table = folder, table
        self.identity = _identity(folder, table)
        self.schema = pa.schema(table.schema().to_arrow())
        self.sorted_until = table.version()  # every file up to this version is known to be ours or another job's
        self._elsewhere: set[str] = set()
        self._tombstones = Tombstones()

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike,
        identity: CodecIdentity,
        metadata_fields: tuple[pa.Field, ...] = (),
        *,
        codec: str | os.PathLike | None = None,
    ) -> Bank:
        """A new, empty bank; the local folder `codec` is copied into it first, under the hash that the log will name.

        Raises FileExistsError where there is a table, also one that somebody else makes at this moment: a copied codec
        that it does not name is removed again.
        The columns are row_schema's and then the user's own, in types Delta can hold (pipeline/bank/metadata.py).
        """
        folder = Folder(uri)
        schema = require_room(folder, metadata_fields)
        place = CODEC if codec is None else f"{CODEC}/{folder_hash(codec)}"
        with leaving_nothing(folder, place):
            if codec is not None:
                folder.put_folder(codec, place)
            try:
                make_table(folder, schema, identity, place)
                bank = cls.open(uri)
                remove_unnamed(folder, place, bank.table)
                bank.require(identity)
            except FileExistsError:
                with suppress(TableNotFoundError):
                    remove_unnamed(folder, place, DeltaTable(folder.table_uri, storage_options=folder.storage_options))
                raise
        return bank

    @classmethod
    def open(cls, uri: str | os.PathLike, *, version: int | None = None) -> Bank:
        """The newest version, or a given one. Raises FileNotFoundError; ValueError for what is no bank of ours."""
        folder = Folder(uri)
        if folder.is_local and os.path.isfile(folder.uri):
            raise Refusal(f"{folder.uri} is a file, and a memory bank is a folder: name another one.")
        try:
            return cls(folder, DeltaTable(folder.table_uri, version=version, storage_options=folder.storage_options))
        except TableNotFoundError as error:
            raise Missing(
                f"{folder.uri} is not a memory bank: it has no transaction log. `nextmem encode` writes one."
            ) from error

    @property
    def version(self) -> int:
        return self.table.version()

    @property
    def metadata_fields(self) -> tuple[pa.Field, ...]:
        """The user's own columns."""
        return metadata_of(self.schema)

    @property
    def codec_path(self) -> str:
        """The copy of the codec folder inside the bank; on an object store `local_codec` fetches it.

        Under its hash, so that of two jobs which make one bank neither overwrites the other's; right in `_codec/` in a
        bank whose log names no place.
        """
        return f"{self.folder.uri}/{codec_place(self.table)}"

    def reload(self) -> None:
        """Stand on the newest version."""
        self.table.update_incremental()

    def arrivals(self) -> set[str]:
        """Live files that someone else committed since this object was opened: another job's units, or a compaction."""
        if self.version == self.sorted_until and not self._elsewhere:
            return set()
        live = set(self.files())
        if self.version != self.sorted_until:
            known: list[str] = []  # where that version is cleaned, every file may be another's
            with suppress(TableNotFoundError):
                known = live_files(DeltaTable(self.folder.table_uri, self.sorted_until, self.folder.storage_options))
            self._elsewhere |= live - set(known)
            self.sorted_until = self.version
        return self._elsewhere & live

    def count_as_arrivals(self, paths: Iterable[str]) -> None:
        """Files of ours that took over rows of another job's files."""
        self._elsewhere.update(paths)

    def add_columns(self) -> None:
        """Give a bank that was made before a column was added that column, null in all its rows, in a commit."""
        lacking = [field for field in row_schema() if field.name in ADDED and field.name not in self.schema.names]
        if lacking:
            self.table.alter.add_columns([Field.from_arrow(field) for field in lacking])
            self.schema = pa.schema(self.table.schema().to_arrow())

    def require(self, identity: CodecIdentity) -> None:
        """Raises ValueError where the bank's rows are another codec's: both sides, and which fields differ."""
        differing = self.identity.differing(identity)
        if differing:
            sides = "; ".join(
                f"{f}: bank {getattr(self.identity, f)!r}, codec {getattr(identity, f)!r}" for f in differing
            )
            raise Refusal(
                f"{self.folder.uri} holds another codec's rows ({sides}). Use the codec in {self.codec_path}."
            )

    def require_metadata(self, metadata_fields: tuple[pa.Field, ...]) -> None:
        """Raises ValueError where a job would bring other columns of the user's own than the bank has."""
        require_same_columns(self.folder.uri, self.metadata_fields, metadata_fields)

    def writer(self) -> UnitWriter:
        """Writes unit files for this bank; make one a worker, on that worker."""
        return UnitWriter(self.folder, self.schema, self.identity.embedding_width)

    def is_finished(self, unit_id: str) -> bool:
        return log.is_finished(self.table, unit_id)

    def finished_units(self, unit_ids: Iterable[str] | None = None) -> set[str]:
        """The units whose rows this version holds, or that had none: all, or those given. Never encode them again."""
        if unit_ids is None:
            return log.all_finished(self.folder, self.table)
        return log.finished_units(self.folder, self.table, list(unit_ids))

    def finished_documents(self, unit_ids: Iterable[str] | None = None) -> dict[str, int]:
        """How many documents this version holds of each finished unit: of all, or of those given.

        The log says what a unit brought, as long as the unit's files are as they were written. Otherwise (rows were
        deleted, files joined, or an older nextmem noted nothing) the rows are counted.
        """
        wanted = None if unit_ids is None else list(unit_ids)
        try:
            found = log.finished_documents(self.folder, self.table, wanted)
        except FileNotFoundError:
            found = dict.fromkeys(self.finished_units(wanted))
        untouched = {unit_of(path) for path in self.files()}
        counted = {unit_id: 0 for unit_id, brought in found.items() if brought is None or unit_id not in untouched}
        if any(found[unit_id] != 0 for unit_id in counted):
            for batch in self.rows([UNIT], pc.field(POSITION) == 0, batch_rows=65_536, but_of=found.keys() - counted):
                for unit_id in batch.column(0).to_pylist():
                    for name in {unit_id, re.sub(log.AGAIN, "", unit_id)} & counted.keys():
                        counted[name] += 1
        return found | counted

    def replacements(self) -> int:
        """How many commits have replaced documents: if none, a finished unit's rows are all there."""
        return log.replacements(self.table)

    def has_losses(self) -> bool:
        """Whether files that could not be read were taken out: if so, not all rows of finished units are there."""
        return log.losses(self.table) > 0

    def forgotten(self) -> Tombstones:
        """Of the documents that this version will not have back unless they are remembered."""
        if self._tombstones.changed != log.forgotten_at(self.table):
            self._tombstones = read_tombstones(self.folder, self.table)
        return self._tombstones

    def files(self) -> list[str]:
        """The live files, relative to the bank, sorted."""
        return sorted(live_files(self.table))

    def count(self, files: Iterable[str] | None = None) -> int:
        """Chunks, of the live files or of some of them, from the log alone."""
        if files is None:
            return self.table.count()
        log_rows = pa.table(self.table.get_add_actions(flatten=True))
        return pc.sum(log_rows.filter(pc.field("path").isin(list(files))).column("num_records")).as_py() or 0

    def stored_bytes(self) -> int:
        """Of the live files, from the log alone."""
        return pc.sum(pa.table(self.table.get_add_actions(flatten=True)).column("size_bytes")).as_py() or 0

    def documents(self, but_of: Set[str] = frozenset(), *, before_edits: bool = False) -> Iterator[tuple[str, str]]:
        """(doc_id, doc_hash) of every document held, streaming. Files of the units `but_of` are left unread.

        A rerun knows what its finished units hold; on an object store each of their files would cost it requests.
        `before_edits`: of an edited or updated document the hash before that, which is what its corpus has.
        """
        edited = [EDITED_FROM] if before_edits and EDITED_FROM in self.schema.names else []
        first = pc.field(POSITION) == 0
        for batch in self.rows([DOC_ID, DOC_HASH, *edited], first, batch_rows=65_536, but_of=but_of):
            hashes = pc.coalesce(batch.column(2), batch.column(1)) if edited else batch.column(1)
            yield from zip(batch.column(0).to_pylist(), hashes.to_pylist(), strict=True)

    def rows(
        self,
        columns: list[str] | None = None,
        filter: pc.Expression | None = None,
        *,
        batch_rows: int = BATCH_ROWS,
        but_of: Set[str] = frozenset(),
    ) -> Iterator[pa.RecordBatch]:
        """The live rows, streaming, file by file, in each file's own order.

        One row group in memory and no reading ahead: 90 MB for files of 69 MB, where pyarrow's own scan of the whole
        dataset took 570 MB behind a slow consumer, at the same speed.
        """
        reading = ds.ParquetFragmentScanOptions(pre_buffer=not self.folder.is_local)
        kept = {"batch_size": batch_rows, "batch_readahead": 1, "fragment_readahead": 1}
        for fragment in self.dataset().get_fragments(filter):
            if but_of and unit_of(fragment.path) in but_of:
                continue
            scanner = fragment.scanner(
                self.schema, columns=columns, filter=filter, fragment_scan_options=reading, **kept
            )
            yield from (batch for batch in scanner.to_batches() if batch.num_rows)

    def dataset(self) -> ds.Dataset:
        """The live files as a pyarrow dataset."""
        return self.table.to_pyarrow_dataset(filesystem=self.folder.filesystem)


def live_files(table: DeltaTable) -> list[str]:
    """The files that a version of the table consists of, relative to it."""
    return pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist()


def _identity(folder: Folder, table: DeltaTable) -> CodecIdentity:
    properties = table.metadata().configuration
    found = properties.get(PREFIX + "format_version")
    if found is None:
        raise Refusal(
            f"{folder.uri} is a Delta table, but not a memory bank: it names no codec. `nextmem encode` writes one."
        )
    if int(found) > FORMAT_VERSION:
        raise Refusal(
            f"{folder.uri} has format {found}, this nextmem reads up to {FORMAT_VERSION}: install a newer nextmem."
        )
    return CodecIdentity.from_properties(properties)
