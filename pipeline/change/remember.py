"""Small additions from the process that holds the codec: documents are cut, memorised and put in, in one commit.

Nothing of this is an encode job's own: the rows are those that one would make, but for what says where they come from.
The bank decides at the moment of the commit which documents it lacks. A call that was killed has done all or nothing;
the same call again does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError
from pipeline.bank.replace import is_of
from pipeline.bank.unit_file import REMEMBERED
from pipeline.change.put import put
from pipeline.corpus.documents import Document

if TYPE_CHECKING:
    from model.codec import Codec


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one call came to."""

    bank: str
    version: int  # from which on the documents are there
    doc_ids: tuple[str, ...]  # of all that were given
    new: int = 0  # documents
    replaced: int = 0
    held: int = 0  # were there with the same text and columns
    chunks: int = 0  # rows written


@dataclass(frozen=True, slots=True)
class _Held:
    """What a bank has of a document, as far as it decides what becomes of another text of it."""

    doc_hash: str
    unit: str
    edited_from: str | None
    metadata: dict[str, Any]

    def differs(self, document: Document) -> bool:
        """In what is given of it."""
        return self.doc_hash != document.doc_hash or any(
            self.metadata[name] != value for name, value in document.metadata.items()
        )


def remember(
    bank: Bank, load_codec: Callable[[], Codec], documents: Sequence[Document], *, update: bool = False
) -> Remembered:
    """Add the documents to the newest version, on which `bank` stands afterwards; what it holds already stays.

    `update`: those that it holds with another text or other columns are replaced; columns that are not given stay.
    Without it they are refused, and nothing is done. Raises BusyError beside a tend.
    """
    bank.reload()
    doc_ids = tuple(document.doc_id for document in documents)
    for _ in range(ATTEMPTS):
        held = _held(bank, doc_ids)
        changed = [d for d in documents if d.doc_id in held and held[d.doc_id].differs(d)]
        _require_asked(bank, changed, held, asked=update)
        new = [document for document in documents if document.doc_id not in held]
        counts = {"new": len(new), "replaced": len(changed), "held": len(documents) - len(new) - len(changed)}
        if not new and not changed:
            return Remembered(bank.folder.uri, bank.version, doc_ids, **counts)
        if changed:
            bank.add_columns()
        rows = _rows(load_codec(), bank, new, changed, held)
        leaving = {document.doc_id for document in changed}
        if put(bank, "remember", rows, leaving, lambda held=held: _held(bank, doc_ids) == held):
            return Remembered(bank.folder.uri, bank.version, doc_ids, **counts, chunks=rows.num_rows)
    raise ContendedError(f"{bank.folder.uri}: others changed the same documents {ATTEMPTS} times: try again")


def _held(bank: Bank, doc_ids: Sequence[str]) -> dict[str, _Held]:
    """Those of the documents that the bank's version has."""
    names = [field.name for field in bank.metadata_fields]
    edited = [schema.EDITED_FROM] if schema.EDITED_FROM in bank.schema.names else []
    columns = [schema.DOC_ID, schema.DOC_HASH, schema.UNIT, *edited, *names]
    theirs = is_of(set(doc_ids)) & (pc.field(schema.POSITION) == 0)
    return {
        row[schema.DOC_ID]: _Held(
            row[schema.DOC_HASH],
            row[schema.UNIT],
            row.get(schema.EDITED_FROM),
            {name: row[name] for name in names},
        )
        for batch in bank.rows(columns, theirs)
        for row in batch.to_pylist()
    }


def _require_asked(bank: Bank, changed: Sequence[Document], held: dict[str, _Held], *, asked: bool) -> None:
    if not changed or asked:
        return
    first = changed[0]
    what = "another text" if held[first.doc_id].doc_hash != first.doc_hash else "other columns"
    more = f", and {len(changed) - 1} more likewise" if len(changed) > 1 else ""
    raise Refusal(
        f"{bank.folder.uri} has the document {first.doc_id!r} with {what}{more}: nothing was remembered. Update it, or "
        "give another id"
    )


def _rows(
    codec: Codec, bank: Bank, new: Sequence[Document], changed: Sequence[Document], held: dict[str, _Held]
) -> pa.Table:
    """Memory rows. A document that is replaced still counts as its unit's, and stands for the text it had at first."""
    rows = _memorised(codec, bank, [*new, *(_merged(document, held[document.doc_id]) for document in changed)])
    units = [held[doc_id].unit if doc_id in held else REMEMBERED for doc_id in rows[schema.DOC_ID].to_pylist()]
    place = rows.schema.get_field_index(schema.UNIT)
    return rows.set_column(place, rows.schema.field(place), pa.array(units, pa.string()))


def _merged(document: Document, held: _Held) -> Document:
    """With the columns that are not given, and with what its corpus has in place of its text."""
    first = held.edited_from or held.doc_hash
    edited_from = None if first == document.doc_hash else first
    return replace(document, metadata=held.metadata | document.metadata, edited_from=edited_from)


def _memorised(codec: Codec, bank: Bank, documents: Sequence[Document]) -> pa.Table:
    """Rows as an encode job makes them, by the same parts."""
    from pipeline.encode.chunk import chunk_documents
    from pipeline.encode.memorise import Memoriser

    chunks = chunk_documents(
        documents,
        codec.tokenizer,
        chunk_tokens=codec.config.chunk_tokens,
        metadata=bank.metadata_fields,
        **_kept(bank),
    )
    return Memoriser(codec).memorise(chunks, REMEMBERED)


def _kept(bank: Bank) -> dict[str, bool]:
    """Whether rows keep their text, and their words: as those at the beginning of the bank do."""
    options = {"keep_text": schema.TEXT, "keep_words": schema.STEMS}
    held = {option: name for option, name in options.items() if name in bank.schema.names}
    first = next(bank.rows(list(held.values())), None)
    return {option: first is not None and first.column(name).null_count == 0 for option, name in held.items()}
