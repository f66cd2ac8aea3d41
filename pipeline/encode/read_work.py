"""What a reader does with one unit: its documents become a chunk table. Knows no Ray and loads no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from model.codec_folder import TOKENIZER, read_settings
from model.tokens import TextTokenizer
from pipeline import schema
from pipeline.bank.codec_copy import local_codec
from pipeline.corpus.documents import ENCODER, READER, ColumnRoles, Document, Rejected, one_line, reject
from pipeline.encode.chunk import chunk_documents
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import ChunkedUnit, Failure, tried
from pipeline.plan.units import Unit, read_unit
from pipeline.storage import storage

Documents = Callable[[Unit, ColumnRoles], Iterator[Document | Rejected]]


class ReadWork:
    """Reads and chunks units with the codec's tokenizer; loads no weights."""

    def __init__(self, options: EncodeOptions, read: Documents = read_unit):
        """`read` gives a unit's documents and rejections: of files, or of a bank (pipeline/encode/recall_work.py)."""
        codec = local_codec(options.codec)
        settings = read_settings(codec)
        self.options, self.chunk_tokens, self.documents = options, settings["config"]["chunk_tokens"], read
        self.tokenizer = TextTokenizer.load(storage.join(codec, TOKENIZER))

    def read(self, unit: Unit) -> ChunkedUnit | Failure:
        """The unit's chunk table, or why there is none. A unit that is redone does not reject records again."""
        return tried(unit.commit_id, lambda: self._read(unit))

    def _read(self, unit: Unit) -> ChunkedUnit | Failure:
        columns, tables, starts, rejected = self.options.columns, [], [0], []
        unfit: list[Rejected] = []
        for item in self.documents(unit, columns):
            if isinstance(item, Rejected):
                known = item.by == READER and (unit.redo or unit.retry)
                rejected += [] if known else [item]
                continue
            try:
                tables.append(self._chunks(item))
            except ValueError as error:  # the one error of encoding that a document alone can cause
                unfit.append(reject(item.source, item.doc_id, f"tokenizing it failed: {error}", item.text, by=ENCODER))
                continue
            except Exception as error:  # the tokenizers' library raises plain ones: the unit is tried elsewhere
                reason = one_line(f"tokenizing {item.source} failed: {type(error).__name__}: {error}")
                return Failure(unit.commit_id, reason)
            starts.append(starts[-1] + tables[-1].num_rows)
        if unfit and not tables:  # not even one could be: it is the tokenizer, not they
            return Failure(unit.commit_id, f"none of its {len(unfit)} documents could be encoded: {unfit[0].reason}")
        rejected += unfit
        chunks = pa.concat_tables(tables) if tables else schema.chunk_schema(columns.metadata_fields).empty_table()
        return ChunkedUnit(unit.commit_id, unit.replaces, chunks, tuple(starts), tuple(rejected))

    def _chunks(self, document: Document) -> pa.Table:
        return chunk_documents(
            [document],
            self.tokenizer,
            chunk_tokens=self.chunk_tokens,
            keep_text=self.options.keep_text,
            keep_words=self.options.keep_words,
            metadata=self.options.columns.metadata_fields,
        )
