"""What a migrating encoder does: it recalls a unit's documents from another bank, and encodes them with its own codec.

Each document's text is compared with the hash that it was encoded under. One that differs, or of which a chunk does not
recall exactly, is left out by name; nothing is ever encoded of it. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.dataset as ds
import torch

from model.finite import NotFiniteError
from pipeline import schema
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.recall import COLUMNS, InexactRecall, Recalled, recall
from pipeline.corpus.corpus import Span
from pipeline.corpus.documents import ENCODER, ColumnRoles, Document, Rejected, document_hash, reject
from pipeline.encode.blame import described
from pipeline.encode.encode_work import EncodeWork
from pipeline.encode.options import EncodeOptions
from pipeline.encode.outcome import ChunkedUnit, Failure, Outcome
from pipeline.encode.read_work import ReadWork
from pipeline.plan.units import ChangedInputError, Unit, unit_id_of


class RecallWork:
    """Recalls units of `options.source` with that bank's codec, chunks them for the new one, and encodes them."""

    def __init__(self, options: EncodeOptions, ledger, *, worker: str):
        self.worker, self.encoder = worker, EncodeWork(options, ledger, worker=worker)
        self.bank = open_bank(options.source)
        self.codec = load_bank_codec(self.bank)
        self.reader = ReadWork(options, self.documents)

    def encode(self, unit: Unit) -> Outcome:
        """As EncodeWork's, of a unit of pipeline/encode/bank_corpus.py."""
        return self.encoder.encode(self._read(unit))

    def _read(self, unit: Unit) -> ChunkedUnit | Failure:
        try:
            return self.reader.read(unit)
        except torch.AcceleratorError:  # the device is lost to this process
            raise
        except NotFiniteError as error:
            return Failure(unit.commit_id, str(error), fatal=True)
        except (RuntimeError, MemoryError) as error:  # memory ran out: another process, or a later run, may have more
            return Failure(unit.commit_id, described(error))

    def documents(self, unit: Unit, columns: ColumnRoles) -> Iterator[Document | Rejected]:
        """The unit's documents, without those that the new bank holds. Raises ChangedInputError for another's rows."""
        wanted = [*COLUMNS, schema.SOURCE, schema.DOC_HASH, *columns.metadata]
        rows = pa.concat_tables([self._rows(span, wanted) for span in unit.spans])
        found = dict(zip(*rows.select([schema.DOC_ID, schema.DOC_HASH]).to_pydict().values(), strict=True))
        if unit_id_of(list(found), list(found.values()), []) != unit.unit_id:
            raise ChangedInputError(f"{unit.spans[0].file.uri} holds other rows than were planned: run this again")
        number = {doc_id: place for place, doc_id in enumerate(found) if place not in unit.held}
        yield from self._recalled(_in_order(rows, number), columns)

    def _recalled(self, rows: pa.Table, columns: ColumnRoles) -> Iterator[Document | Rejected]:
        """Each document of the rows, which stand in order."""
        about = rows.select([schema.DOC_ID, schema.DOC_HASH, schema.SOURCE, *columns.metadata]).to_pylist()
        chunks: list[Recalled] = []
        for place, chunk in enumerate(recall(rows.to_batches(), self.codec)):
            chunks.append(chunk)
            if place + 1 == len(about) or about[place + 1][schema.DOC_ID] != chunk.doc_id:
                yield _document(chunks, about[place], columns)
                chunks = []

    def _rows(self, span: Span, columns: list[str]) -> pa.Table:
        """Reads the row groups alone that the span lies in."""
        file = ds.dataset([span.file.name], self.bank.schema, "parquet", self.bank.folder.filesystem)
        (fragment,) = file.get_fragments()
        start, before, groups = 0, 0, []
        for group in fragment.row_groups:
            if start + group.num_rows <= span.first:
                before = start + group.num_rows
            elif start < span.first + span.count:
                groups.append(group.id)
            start += group.num_rows
        table = fragment.subset(row_group_ids=groups).to_table(schema=self.bank.schema, columns=columns)
        return table.slice(span.first - before, span.count)


def _in_order(rows: pa.Table, number: dict[str, int]) -> pa.Table:
    """The rows of the documents that have a number, by it, and by their position in the document."""
    ids, positions = rows[schema.DOC_ID].to_pylist(), rows[schema.POSITION].to_pylist()
    chosen = (place for place, doc_id in enumerate(ids) if doc_id in number)
    return rows.take(sorted(chosen, key=lambda place: (number[ids[place]], positions[place])))


def _document(chunks: list[Recalled], about: dict, columns: ColumnRoles) -> Document | Rejected:
    doc_id, doc_hash, source = (about[name] for name in (schema.DOC_ID, schema.DOC_HASH, schema.SOURCE))
    inexact = next((chunk for chunk in chunks if not chunk.exact), None)
    if inexact is not None:
        return reject(source, doc_id, str(InexactRecall(inexact)), inexact.text, by=ENCODER)
    text = "".join(chunk.text for chunk in chunks)
    if document_hash(text) != doc_hash:
        reason = f"its {len(chunks)} chunks recall exactly, but together are not the document that was encoded"
        return reject(source, doc_id, reason, text, by=ENCODER)
    return Document(doc_id, text, doc_hash, source, {name: about[name] for name in columns.metadata})
