"""A document's rows once some of its chunks have another text. The other chunks keep their latents and their borders.

Only what changed is encoded, refined or patched. A chunk whose text has grown past what a chunk may hold becomes two,
and one that has no text left goes; the chunks after it move along. All rows of the document get its new hash, so the
whole of it recalls to the changed text. Shapes: L text tokens.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from model.batches import batches
from model.codec import Codec
from model.edit import ENCODE, METHODS, PATCH, edited
from model.memory import Memory
from model.patch import text_patch
from model.refusal import Refusal
from model.tokens import chunk_id
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.lookup import by_doc_id
from pipeline.bank.recall import BATCH, InexactRecall, recall, stored
from pipeline.corpus.documents import Document, document_hash
from pipeline.encode.chunk import chunk_documents
from pipeline.encode.memorise import Memoriser
from pipeline.stems import pack, with_whole_words


@dataclass(frozen=True, slots=True)
class Known:
    """A document as its rows have it, by position."""

    rows: list[dict[str, Any]]
    texts: list[str]

    @property
    def doc_id(self) -> str:
        return self.rows[0][schema.DOC_ID]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def known(bank: Bank, codec: Codec, doc_id: str) -> Known:
    """All of a document, recalled. Raises NotInBank, and InexactRecall for a row that cannot be."""
    rows = by_doc_id(bank, doc_id)
    recalled = list(recall(rows.to_batches(), codec))
    for row in recalled:
        if not row.exact:
            raise InexactRecall(row)
    return Known(rows.to_pylist(), [row.text for row in recalled])


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The rows of whole documents, and those among them that were made anew beside those whose place they take."""

    table: pa.Table
    before: list[dict[str, Any]]
    made: list[dict[str, Any]]


def rewritten(
    bank: Bank, codec: Codec, changes: Sequence[tuple[Known, Mapping[int, str]]], method: str, *, steps: int
) -> Rewritten:
    """Each document with new texts for some of its chunks, by their positions.

    Raises Refusal where a document would be empty, or where REFINE or PATCH would need more than one chunk.
    """
    jobs = [_Job(codec, bank, each.rows[at], text) for each, texts in changes for at, text in sorted(texts.items())]
    pieces = iter(_made(codec, jobs, method, steps))
    table: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for each, texts in changes:
        parts = [
            next(pieces) if at in texts else [_Piece(row, text)]
            for at, (row, text) in enumerate(zip(each.rows, each.texts, strict=True))
        ]
        rows = _document(codec, each, [piece for part in parts for piece in part])
        fresh = {id(piece.row) for at in texts for piece in parts[at]}
        made += [row for row in rows if id(row) in fresh]
        table += rows
    return Rewritten(pa.Table.from_pylist(table, schema=bank.schema), [job.row for job in jobs], made)


class _Job:
    """One chunk that is to have another text: the row that it had, and the new text's chunks, mostly one."""

    def __init__(self, codec: Codec, bank: Bank, row: dict[str, Any], text: str):
        self.row, self.text = row, text
        metadata = {field.name: row[field.name] for field in bank.metadata_fields}
        self.chunks = chunk_documents(
            [Document(row[schema.DOC_ID], text, "", row[schema.SOURCE], metadata)],
            codec.tokenizer,
            chunk_tokens=codec.config.chunk_tokens,
            keep_text=row[schema.TEXT] is not None,
            metadata=bank.metadata_fields,
        )
        self.ids = [np.asarray(ids.values, dtype=np.int32) for ids in self.chunks[schema.TOKEN_IDS]]

    def require_one(self, codec: Codec, method: str) -> None:
        """The stored latents stand for one chunk. None, where no text is left, needs no latents."""
        tokens = sum(map(len, self.ids))
        if len(self.ids) > 1 or (self.ids and not tokens):
            raise Refusal(
                f"the new text of chunk {self.row[schema.CHUNK_ID]} has {tokens} tokens, and a chunk of this codec "
                f"1 to {codec.config.chunk_tokens}: the method {method} changes one chunk, the method {ENCODE} makes "
                "as many as it takes"
            )


@dataclass(slots=True)
class _Piece:
    """A row on its way into its document. `ids`: its tokens [L], where it is new."""

    row: dict[str, Any]
    text: str
    ids: np.ndarray | None = None


def _made(codec: Codec, jobs: Sequence[_Job], method: str, steps: int) -> Iterator[list[_Piece]]:
    """Rows of each job, in order."""
    if method not in METHODS:
        raise ValueError(f"{method!r} is no method: {METHODS}")
    if method != ENCODE:
        for job in jobs:
            job.require_one(codec, method)
    rows = iter(_encoded(codec, jobs) if method == ENCODE else _adapted(codec, jobs, method, steps))
    for job in jobs:
        spans = zip(job.chunks[schema.CHAR_START].to_pylist(), job.chunks[schema.CHAR_END].to_pylist(), strict=True)
        yield [
            _Piece(next(rows) | {schema.EDITED: method}, job.text[start:end], ids)
            for (start, end), ids in zip(spans, job.ids, strict=True)
        ]


def _encoded(codec: Codec, jobs: Sequence[_Job]) -> Iterator[dict[str, Any]]:
    """By the parts of an encode job. A document's row stays its unit's."""
    units = [job.row[schema.UNIT] for job in jobs for _ in job.ids]
    rows = Memoriser(codec).memorise(pa.concat_tables([job.chunks for job in jobs]), "").to_pylist()
    return (row | {schema.UNIT: unit} for row, unit in zip(rows, units, strict=True))


def _adapted(codec: Codec, jobs: Sequence[_Job], method: str, steps: int) -> Iterator[dict[str, Any]]:
    """From the stored latents."""
    wanted = [job for job in jobs if job.ids]
    memories: list[Memory | None] = [None] * len(wanted)
    for group in batches([len(job.ids[0]) for job in wanted], BATCH[codec.backbone.device.type]):
        some = [wanted[i] for i in group]
        found = edited(codec, [_memory(job.row) for job in some], [job.ids[0] for job in some], method, steps=steps)
        for i, memory in zip(group, found, strict=True):
            memories[i] = memory
    for job, memory in zip(wanted, memories, strict=True):
        yield _adapted_row(codec, job, memory, method)


def _adapted_row(codec: Codec, job: _Job, memory: Memory, method: str) -> dict[str, Any]:
    (chunk,) = job.chunks.to_pylist()
    row = job.row | {name: chunk[name] for name in (schema.NUM_TOKENS, schema.TEXT_HASH, schema.TEXT)}
    row |= {schema.CODES: memory.codes, schema.SCALES: memory.scales, schema.EMBEDDING: memory.embedding_E.tolist()}
    row |= {schema.FIDELITY: memory.fidelity, schema.PATCH: memory.patch}
    if chunk[schema.LOSSY]:
        row[schema.PATCH] = codec.patches.pack(text_patch())
    if method != PATCH:
        row[schema.REFINE_STEPS] = (row[schema.REFINE_STEPS] or 0) + memory.refining.steps
        row[schema.ENCODED_AT] = datetime.datetime.now(datetime.UTC)
    return row


def _memory(row: dict[str, Any]) -> Memory:
    embedding_E = np.asarray(row[schema.EMBEDDING], dtype=np.float32)
    return Memory(row[schema.CODES], row[schema.SCALES], embedding_E, row[schema.FIDELITY], row[schema.PATCH])


def _document(codec: Codec, before: Known, pieces: Sequence[_Piece]) -> list[dict[str, Any]]:
    """The pieces' rows as one document: places, ids and the document's hash agree."""
    text = "".join(piece.text for piece in pieces)
    if not text or text.isspace():
        raise Refusal(f"the document {before.doc_id!r} would have no text left: forget it instead")
    doc_hash, first = document_hash(text), before.rows[0]
    from_hash = first[schema.EDITED_FROM] or first[schema.DOC_HASH]
    char = 0
    for position, piece in enumerate(pieces):
        if piece.ids is not None or piece.row[schema.POSITION] != position:
            ids = _ids(codec, piece) if piece.ids is None else piece.ids
            piece.row[schema.CHUNK_ID] = chunk_id(before.doc_id, position, ids)
        piece.row |= {
            schema.POSITION: position,
            schema.CHAR_START: char,
            schema.CHAR_END: char + len(piece.text),
            schema.DOC_HASH: doc_hash,
            schema.EDITED_FROM: None if from_hash == doc_hash else from_hash,
        }
        if first.get(schema.STEMS) is not None:  # a word may lie across a border, in two chunks
            piece.row[schema.STEMS] = pack(with_whole_words(text, char, char + len(piece.text)))
        char += len(piece.text)
    return [piece.row for piece in pieces]


def _ids(codec: Codec, piece: _Piece) -> np.ndarray:
    """Of a chunk that moves along. A chunk's tokens are a slice of its document's, mostly those of its own text."""
    row, own = piece.row, np.asarray(codec.tokenizer.encode(piece.text), dtype=np.int32)
    if row[schema.TEXT] is not None or row[schema.CHUNK_ID] == chunk_id(row[schema.DOC_ID], row[schema.POSITION], own):
        return own
    return codec.recall([stored(row)])[0].token_ids
