"""Documents to a chunk table: the CPU stage. Encoders get token ids, not strings."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from model.tokens import TextTokenizer, TokenChunk, chunk_id, text_hash
from pipeline import schema
from pipeline.corpus.documents import Document
from pipeline.stems import pack, with_whole_words


def chunk_documents(
    documents: Iterable[Document],
    tokenizer: TextTokenizer,
    *,
    chunk_tokens: int,
    keep_text: bool = False,
    keep_words: bool = False,
    metadata: tuple[pa.Field, ...] = (),
) -> pa.Table:
    """One row a chunk (pipeline/schema.py, chunk_schema), documents in order, chunks in order.

    The text is kept where asked, and always where the tokenizer cannot give it back; its words where asked.
    """
    table_schema = schema.chunk_schema(metadata)
    columns: dict[str, list] = {name: [] for name in table_schema.names}
    for document in documents:
        for chunk in tokenizer.chunks(document.text, chunk_tokens):
            text = document.text[chunk.char_start : chunk.char_end]
            row = {
                schema.CHUNK_ID: chunk_id(document.doc_id, chunk.position, chunk.token_ids),
                schema.DOC_ID: document.doc_id,
                schema.POSITION: chunk.position,
                schema.CHAR_START: chunk.char_start,
                schema.CHAR_END: chunk.char_end,
                schema.NUM_TOKENS: len(chunk.token_ids),
                schema.SOURCE: document.source,
                schema.TEXT_HASH: text_hash(text),
                schema.TEXT: text if keep_text or chunk.lossy else None,
                schema.LOSSY: chunk.lossy,
                schema.DOC_HASH: document.doc_hash,
                schema.STEMS: _stems(document.text, chunk) if keep_words else None,
                schema.EDITED_FROM: document.edited_from,
                schema.TOKEN_IDS: chunk.token_ids,
                **{field.name: document.metadata.get(field.name) for field in metadata},
            }
            for name, value in row.items():
                columns[name].append(value)
    return pa.table(columns, schema=table_schema)


def _stems(text: str, chunk: TokenChunk) -> bytes:
    return pack(with_whole_words(text, chunk.char_start, chunk.char_end))
