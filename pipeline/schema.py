"""Column names and Arrow schemas, each written once. Nobody else writes the literal.

A *chunk table* is what the CPU stage hands to the encoder (token ids, no latents); a *memory row* is what one chunk
becomes. Both travel as Arrow tables. K latents, D hidden width, E embedding width.
"""

from __future__ import annotations

import pyarrow as pa

CHUNK_ID = "chunk_id"
DOC_ID = "doc_id"
POSITION = "position"
CHAR_START = "char_start"
CHAR_END = "char_end"
NUM_TOKENS = "num_tokens"
SOURCE = "source"
UNIT = "unit"
CODES = "codes"
SCALES = "scales"
EMBEDDING = "embedding"
FIDELITY = "fidelity"
PATCH = "patch"
REFINE_STEPS = "refine_steps"
STEMS = "stems"
EDITED = "edited"
EDITED_FROM = "edited_from"
TEXT_HASH = "text_hash"
TEXT = "text"
DOC_HASH = "doc_hash"
ENCODED_AT = "encoded_at"

LATENTS = "latents"  # of an export alone: the values that codes and scales stand for
FAISS_ID = "faiss_id"  # of an export alone

TOKEN_IDS = "token_ids"
LOSSY = "lossy"

_WHERE = [
    pa.field(CHUNK_ID, pa.string(), nullable=False),  # 32 hex digits: hash of doc id, position and token ids
    pa.field(DOC_ID, pa.string(), nullable=False),
    pa.field(POSITION, pa.int32(), nullable=False),  # 0-based place of the chunk in its document
    pa.field(CHAR_START, pa.int64(), nullable=False),  # code points, half open
    pa.field(CHAR_END, pa.int64(), nullable=False),
    pa.field(NUM_TOKENS, pa.int32(), nullable=False),
    pa.field(SOURCE, pa.string(), nullable=False),  # the input file the document came from
]
_HASHES = [
    pa.field(TEXT_HASH, pa.string(), nullable=False),  # of the chunk's text, UTF-8
    pa.field(TEXT, pa.string()),  # with --keep-text, or where the tokenizer cannot give the text back
    pa.field(DOC_HASH, pa.string(), nullable=False),  # of the whole document's text, UTF-8
]
_STEMS = pa.field(STEMS, pa.binary())  # pipeline/stems.py, with --keep-words: hashed stems of the text, and counts

_EDITED_FROM = pa.field(EDITED_FROM, pa.string())  # doc_hash before the document's first edit or update; null: none


def chunk_schema(metadata: tuple[pa.Field, ...] = ()) -> pa.Schema:
    """What the CPU stage hands to the encoder: one row a chunk, plus the user's own columns."""
    tokens = [
        pa.field(LOSSY, pa.bool_(), nullable=False),  # decoding the ids does not give the text back
        pa.field(TOKEN_IDS, pa.list_(pa.int32()), nullable=False),
    ]
    return pa.schema([*_WHERE, *_HASHES, _STEMS, _EDITED_FROM, *tokens, *metadata])


def row_schema(metadata: tuple[pa.Field, ...] = ()) -> pa.Schema:
    """One memory row a chunk, plus the user's own columns. Widths are the codec's, in the bank's properties."""
    return pa.schema(
        [
            *_WHERE,
            pa.field(UNIT, pa.string(), nullable=False),  # the work unit that wrote the row; what resume reads
            pa.field(CODES, pa.binary(), nullable=False),  # stored latents * D values, in 4, 3 or 2 bits each
            pa.field(SCALES, pa.binary(), nullable=False),  # float16, one a block of 64 values
            pa.field(EMBEDDING, pa.list_(pa.float32()), nullable=False),  # E values, L2 norm 1
            pa.field(FIDELITY, pa.float32()),  # share of positions greedy decoding gets right; null if not verified
            pa.field(PATCH, pa.binary()),  # model/patch.py; null if not verified
            *_HASHES,
            pa.field(ENCODED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field(REFINE_STEPS, pa.int32()),  # optimizer steps on its latents; null where none were asked for
            _STEMS,
            pa.field(EDITED, pa.string()),  # how its text was changed last (model/edit.py); null where it never was
            _EDITED_FROM,
            *metadata,
        ]
    )


RESERVED = frozenset(row_schema().names) | {TOKEN_IDS, LOSSY}

ADDED = (REFINE_STEPS, STEMS, EDITED, EDITED_FROM)
"""Columns that banks made before them lack. All nullable: a reader takes them for null."""

INCOMPRESSIBLE = (CODES, SCALES, EMBEDDING)
"""High entropy: neither a dictionary nor zstd makes them smaller."""

REPEATING = (DOC_ID, SOURCE, UNIT, DOC_HASH)
"""The same value in row after row: what a dictionary is for."""

INDEXED = (CHUNK_ID, DOC_ID, POSITION, NUM_TOKENS, SOURCE, UNIT, ENCODED_AT)
"""The log keeps these columns' smallest and largest value a file, and readers skip files by them."""

DIGITS = 32
"""Hex digits of a chunk id, a text hash, a document hash."""


def metadata_of(schema: pa.Schema) -> tuple[pa.Field, ...]:
    """The user's own columns among a bank's columns."""
    return tuple(field for field in schema if field.name not in RESERVED)


def indexed(schema: pa.Schema) -> tuple[str, ...]:
    """INDEXED, and the user's own columns of text, whole numbers, dates and times.

    Floats are left out: a file's smallest and largest value do not tell of a NaN in it.
    """
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_date, pa.types.is_timestamp)
    own = (field.name for field in metadata_of(schema) if any(fits(field.type) for fits in kinds))
    return (*INDEXED, *own)
