"""A bank with the embeddings of another codec's head: the same rows in a new bank, without decoding or encoding any.

The head reads the latents that the rows hold, so the new codec must make the same latents as the old one. The rows come
in one commit with all that the old bank's log knows: which units are finished, what was left out, what is forgotten.
So encoding goes on in the new bank where it stood in the old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from deltalake import Transaction

from model.codec import Codec
from model.codec_head import latents_identity
from model.codec_io import load_codec
from model.refusal import Refusal, Taken
from pipeline.bank import transaction_log as log
from pipeline.bank.bank import REJECTED, Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.commit import ContendedError, add_actions, swap
from pipeline.bank.count import Count, Told
from pipeline.bank.forgotten import carrying
from pipeline.bank.identity import codec_identity, verify_config
from pipeline.bank.unit_file import KEPT, WrittenFile, as_schema, unit_of
from pipeline.schema import CODES, EMBEDDING, NUM_TOKENS, SCALES

BATCH_ROWS = 1024
SUFFIX = ".jsonl"  # of a list of rejected documents


@dataclass(frozen=True, slots=True)
class Converted:
    """The new bank."""

    bank: str
    rows: int
    files: int
    codec: str  # its hash
    embedding_width: int
    num_latents: int  # that a row stores
    quantiser: str

    @classmethod
    def of(cls, made: Bank) -> Converted:
        identity = made.identity
        latents = identity.num_latents, identity.quantiser
        return cls(
            made.folder.uri, made.count(), len(made.files()), identity.codec_hash, identity.embedding_width, *latents
        )


def convert(
    bank: Bank, out: str, codec: str, *, backbone: str | None = None, on_progress: Told = lambda done, of: None
) -> Converted:
    """Write this version's rows to a new bank `out`, embedded by the codec in a folder. All of them or none.

    Raises Refusal for a codec of other latents, which it names, and Taken where `out` holds rows already.
    """
    folder = local_codec(codec)
    _require_same_latents(bank, folder)
    verifying = verify_config(bank.identity)
    made = _empty_bank(out, folder, bank)
    loaded = load_codec(folder, backbone_name=backbone, verifying=verifying)
    count = Count(on_progress, bank.count())
    files = [file for path in bank.files() for file in _file(bank, path, made, loaded, count)]
    if not swap(made, add_actions(files), {"converted_rows": count.done}, records(bank, made)):
        raise ContendedError(f"{made.folder.uri} was written to by another job: name another folder")
    return Converted.of(made)


def records(bank: Bank, made: Bank) -> list[Transaction]:
    """What the old bank's log knows beside rows, for the commit that ends the making of the new one."""
    finished = [log.unit_transaction(unit, documents) for unit, documents in bank.finished_documents().items()]
    return [*finished, *_lists(bank, made), *carrying(made, bank)]


def _require_same_latents(bank: Bank, folder: str) -> None:
    held, brought = latents_identity(local_codec(bank.codec_path)), latents_identity(folder)
    if held != brought:
        raise Refusal(
            f"{folder} is of latents {brought}, {bank.folder.uri} holds those of {held}: a head reads the latents that "
            "it was taught on. Teach one on this bank with `nextmem train --system head`, or encode the corpus anew."
        )


def _empty_bank(out: str, folder: str, bank: Bank) -> Bank:
    """A new one; or one that a start left which was killed."""
    identity = codec_identity(folder, verify_config(bank.identity))
    try:
        made = Bank.open(out)
    except FileNotFoundError:
        made = Bank.create(out, identity, bank.metadata_fields, codec=folder)
    made.require(identity)
    if made.files() or made.finished_units():
        raise Taken(f"{made.folder.uri} holds rows already: name a new folder")
    return made


def _file(bank: Bank, path: str, made: Bank, codec: Codec, count: Count) -> Iterator[WrittenFile]:
    """One file of the old bank, in files of the new one."""
    rows = ds.dataset([path], bank.schema, "parquet", bank.folder.filesystem).to_batches(batch_size=BATCH_ROWS)
    embedded = (as_schema(_embedded(batch, codec, count), made.schema, path) for batch in rows if batch.num_rows)
    return made.writer().write_files(unit_of(path) or KEPT, embedded)


def _embedded(batch: pa.RecordBatch, codec: Codec, count: Count) -> pa.RecordBatch:
    embedding_BE = embed_stored(batch, codec)
    values = pa.array(embedding_BE.ravel(), pa.float32())
    offsets = pa.array(np.arange(0, embedding_BE.size + 1, embedding_BE.shape[1]), pa.int32())
    place = batch.schema.get_field_index(EMBEDDING)
    field = batch.schema.field(EMBEDDING)
    count(batch.num_rows)
    return batch.set_column(place, field, pa.ListArray.from_arrays(offsets, values).cast(field.type))


@torch.inference_mode()
def embed_stored(batch: pa.RecordBatch, codec: Codec) -> np.ndarray:
    """float32 [B, E] of stored latents; zeros for a chunk without tokens, which is near nothing."""
    stored = codec.quantiser.packed(batch.column(CODES).to_pylist(), batch.column(SCALES).to_pylist())
    latents_BKD = codec.dequantise(*stored)
    embedding_BE = codec.embed(latents_BKD).cpu().numpy()
    embedding_BE[batch.column(NUM_TOKENS).to_numpy() == 0] = 0.0
    return embedding_BE


def _lists(bank: Bank, made: Bank) -> list[Transaction]:
    """The lists of rejected documents that count, copied; and the log's record of each."""
    names = [name.rpartition("/")[2].removesuffix(SUFFIX) for name in bank.folder.names(REJECTED)]
    counting = log.committed_lists(bank.folder, bank.table, names)
    for name in counting:
        made.folder.put(f"{REJECTED}/{name}{SUFFIX}", bank.folder.read(f"{REJECTED}/{name}{SUFFIX}"))
    return [log.list_transaction(name) for name in sorted(counting)]
