"""A bank at a lower rate: fewer latents a row, or fewer bits a value, in a new bank of the same codec.

Each row is recalled exactly, its first latents are quantised anew, and one verifying pass gives the patch that they
need. All else of the row stays, its embedding too: it is of all the latents, and so is a query's. File by file, each in
a commit that names it; so a job that was killed goes on with the next file, at the version where it began. The last
commit takes over which units are finished, what was left out and what is forgotten.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from deltalake import Transaction
from safetensors.torch import load_file

from model.batches import batches
from model.codec import Codec
from model.codec_folder import TENSORS, read_settings
from model.codec_io import load_codec
from model.leading import DIRECTIONS, add_directions, leading_directions, require_rank
from model.rate import LEADING, Rate
from model.refusal import Refusal, Taken
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.commit import ATTEMPTS, ContendedError, add_actions, swap
from pipeline.bank.convert import Converted, records
from pipeline.bank.count import Count, Told
from pipeline.bank.identity import CodecIdentity, codec_identity, verify_config
from pipeline.bank.recall import BATCH, COLUMNS, inexact, is_damaged, stored
from pipeline.bank.unit_file import KEPT, WrittenFile, as_schema, unit_of
from pipeline.schema import CODES, FIDELITY, NUM_TOKENS, PATCH, REFINE_STEPS, SCALES

SAMPLE, FILES = 4096, 64  # rows, and at most so many files, from which directions are learned
BATCHES = 8  # of rows that are sorted by length together
MADE = (CODES, SCALES, FIDELITY, PATCH, REFINE_STEPS)  # columns that are new
DONE = "lowered"  # application id in the log, once all rows are there; `lowered/FILE` once a file's are


def lower_rate(
    bank: Bank,
    out: str,
    *,
    latents: int | None = None,
    bits: int | None = None,
    rank: int | None = None,
    backbone: str | None = None,
    on_progress: Told = lambda done, of: None,
) -> Converted:
    """Bring this version's rows into a new bank `out` that stores less of each. The same call again goes on.

    None: as many latents, or bits, as the bank stores. `rank`: of each latent, its place along so many directions,
    which are learned from the bank's latents. Raises Refusal for more of any, and where nothing is less; InexactRecall
    for a row whose tokens cannot be had; Taken where `out` holds rows of another making.
    """
    held, folder = verify_config(bank.identity), local_codec(bank.codec_path)
    rate = _lower(bank, held.rate, latents, bits, rank)
    reader = load_codec(folder, backbone_name=backbone, verifying=held)
    with tempfile.TemporaryDirectory() as scratch:
        stored_by = _codec_of(out, bank, folder, reader, rank, Path(scratch, "codec"))
        made = _begun(out, codec_identity(stored_by, replace(held, rate=rate)), bank, stored_by)
        statistics = replace(reader.statistics, directions_RD=load_file(Path(stored_by, TENSORS)).get(DIRECTIONS))
    bank = _as_it_was(bank, made)
    lowering = _Lowering(bank, made, reader, reader.at(rate, statistics), Count(on_progress, bank.count()))
    for path in bank.files():
        lowering.bring(path)
    if not swap(made, [], {"lowered_rows": made.count()}, [*records(bank, made), Transaction(DONE, 1)]):
        raise ContendedError(f"{made.folder.uri} was written to by another job: run the same command again")
    return Converted.of(made)


def _lower(bank: Bank, held: Rate, latents: int | None, bits: int | None, rank: int | None) -> Rate:
    """The rate that is asked for. Raises Refusal where it is not a lower one."""
    rate = Rate(held.latents if latents is None else latents, held.bits if bits is None else bits)
    stores = f"{bank.folder.uri} stores {held.latents} latents a row, {held.bits} bits a value"
    if rate.latents > held.latents or rate.bits > held.bits:
        wanted = f"{rate.latents} latents in {rate.bits} bits"
        raise Refusal(f"{stores}; {wanted} would need what was never stored: encode the corpus anew, or `migrate`")
    if rate == held and rank is None:
        raise Refusal(f"{stores} already: ask for fewer of either")
    return rate


def _codec_of(out: str, bank: Bank, folder: str, reader: Codec, rank: int | None, scratch: Path) -> str:
    """The folder of the codec of the new rows: the bank's, or one with directions; what an earlier start made of it."""
    if rank is None:
        return folder
    require_rank(rank, read_settings(folder))
    with suppress(FileNotFoundError):
        begun = Bank.open(out)
        if f"{LEADING}{rank}" != read_settings(made := local_codec(begun.codec_path))["config"]["quantiser"]:
            raise Taken(f"{begun.folder.uri} is there, and its rows are stored otherwise: name a new folder")
        return made
    return str(add_directions(folder, leading_directions(_sample(bank, reader), rank), scratch))


def _sample(bank: Bank, reader: Codec) -> torch.Tensor:
    """float32 [N, D]: the standardised latents of rows from files at even distances."""
    files = bank.files()
    files = files[:: -(-len(files) // FILES)]
    parts = []
    for path in files:
        file = ds.dataset([path], bank.schema, "parquet", bank.folder.filesystem)
        rows = file.head(-(-SAMPLE // len(files)), columns=[CODES, SCALES])
        stored = reader.quantiser.packed(rows[CODES].to_pylist(), rows[SCALES].to_pylist())
        parts.append(reader.quantiser.values(*stored).flatten(0, 1))
    return torch.cat(parts)


def _begun(out: str, identity: CodecIdentity, bank: Bank, codec: str) -> Bank:
    """A new bank that notes which version of which bank it is made of; or the one that an earlier start made."""
    try:
        made = Bank.open(out)
    except FileNotFoundError:
        made = Bank.create(out, identity, bank.metadata_fields, codec=codec)
    made.require(identity)
    if made.table.transaction_version(DONE) is not None:
        raise Taken(f"{made.folder.uri} is there already, with all its rows: name a new folder")
    if made.table.transaction_version(_origin(bank)) is None:
        if made.files() or made.finished_units():
            raise Taken(f"{made.folder.uri} holds rows already: name a new folder")
        swap(made, [], {"lowered_from": bank.folder.uri}, [Transaction(_origin(bank), bank.version + 1)])
    return made


def _as_it_was(bank: Bank, made: Bank) -> Bank:
    """The bank as it was when an earlier start began with it."""
    version = (made.table.transaction_version(_origin(bank)) or 0) - 1
    if version < 0:  # another job came first, with another bank
        raise Taken(f"{made.folder.uri} is being made by another job: name a new folder")
    return bank if version == bank.version else Bank.open(bank.folder.uri, version=version)


def _origin(bank: Bank) -> str:
    return f"{DONE}-from/{bank.table.metadata().id}"


class _Lowering:
    """Rows of one bank into another, with one codec that reads at the old rate and one that writes at the new."""

    def __init__(self, bank: Bank, made: Bank, reader: Codec, keeper: Codec, count: Count):
        self.bank, self.made, self.reader, self.keeper, self.count = bank, made, reader, keeper, count
        self.size = BATCH[reader.backbone.device.type]

    def bring(self, path: str) -> None:
        """One file, in a commit of its own; nothing where an earlier start has brought it."""
        record, files = Transaction(f"{DONE}/{path}", 1), None
        for _ in range(ATTEMPTS):
            if self.made.table.transaction_version(record.app_id) is not None:
                if files is None:
                    self.count(self.bank.count([path]))
                return
            files = list(self._files(path)) if files is None else files
            if swap(self.made, add_actions(files), {"rows": sum(each.num_records for each in files)}, [record]):
                return
        raise ContendedError(f"{self.made.folder.uri} changed under each of {ATTEMPTS} attempts to add rows")

    def _files(self, path: str) -> Iterator[WrittenFile]:
        file = ds.dataset([path], self.bank.schema, "parquet", self.bank.folder.filesystem)
        rows = file.to_batches(batch_size=BATCHES * self.size)
        lowered = (as_schema(self._lowered(batch), self.made.schema, path) for batch in rows if batch.num_rows)
        return self.made.writer().write_files(unit_of(path) or KEPT, lowered)

    def _lowered(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.select([*COLUMNS, *(name for name in MADE if name not in COLUMNS)]).to_pylist()
        for row in rows:
            if is_damaged(row, self.reader):
                raise inexact(row)
        for group in batches([row[NUM_TOKENS] for row in rows], self.size):
            some = [rows[i] for i in group]
            kept = [row for row in some if row[PATCH] is not None and self.reader.patches.keeps_text(row[PATCH])]
            self._cut(kept)
            self._verified([row for row in some if row not in kept])
            self.count(len(some))
        for name in MADE:
            place, field = batch.schema.get_field_index(name), batch.schema.field(name)
            batch = batch.set_column(place, field, pa.array([row[name] for row in rows], field.type))
        return batch

    @torch.inference_mode()
    def _cut(self, rows: Sequence[dict]) -> None:
        """Rows whose text stands in them: no token ids could give it back, so there is nothing to verify."""
        if rows:
            codes_BC, scales_BG = self.keeper.quantise(self.reader.stored_latents([stored(row) for row in rows]))
            for row, codes_C, scales_G in zip(rows, codes_BC.cpu().numpy(), scales_BG.cpu().numpy(), strict=True):
                row.update({CODES: codes_C.tobytes(), SCALES: scales_G.tobytes(), REFINE_STEPS: None})

    def _verified(self, rows: Sequence[dict]) -> None:
        """Their latents were refined for the old rate, if they were: at the new one they may be refined again."""
        if not rows:
            return
        memories = [stored(row) for row in rows]
        recalled = self.reader.recall(memories)
        for row, each in zip(rows, recalled, strict=True):
            if not each.exact:
                raise inexact(row)
        chunks = [np.asarray(each.token_ids) for each in recalled]
        made = self.keeper.keep(self.reader.stored_latents(memories), chunks)
        for row, memory in zip(rows, made, strict=True):
            new = {CODES: memory.codes, SCALES: memory.scales, FIDELITY: memory.fidelity, PATCH: memory.patch}
            row.update(new | {REFINE_STEPS: None})
