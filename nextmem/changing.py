"""The methods of a Bank that change what it holds: remember, update, edit. They act on the newest version."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from model.refusal import Refusal
from nextmem.filters import Filter, expression
from pipeline.bank.count import Told
from pipeline.bank.due import count_due

if TYPE_CHECKING:
    from model.codec import Codec
    from nextmem.bank import Bank
    from pipeline.bank.bank import Bank as Table
    from pipeline.change.edit import Edited
    from pipeline.change.remember import Remembered


def remember(
    bank: Bank,
    given: str | Iterable[str | Mapping[str, Any]],
    /,
    *,
    doc_id: str | None = None,
    update: bool = False,
    **columns: Any,
) -> Remembered:
    """Add a text, or several texts and records, in one commit; this bank finds them at once.

    A record is a mapping with `text`, perhaps `doc_id`, and values of the bank's own columns, which go before those in
    `columns`. A document without an id is named by its text's hash. What the bank holds already is left as it is;
    with `update`, an id that is there with another text or other columns takes those given. Raises Refusal, with
    nothing done, for such an id without `update`, an empty text or a column that is not there; BusyError beside a
    tend.
    """
    from pipeline.change.given import Columns, documents_given
    from pipeline.change.remember import remember

    with bank._lock:
        table = bank._open()
        documents = documents_given(given, Columns(table.metadata_fields), columns, doc_id=doc_id)
        return remember(table, bank._loaded, documents, update=update)


def remember_files(
    bank: Bank,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    /,
    *,
    text_column: str = "text",
    id_column: str | None = None,
    update: bool = False,
    **columns: Any,
) -> Remembered:
    """Add the documents of files in any format of a corpus, in one commit. They are all in memory at once.

    `update` replaces documents that are there with another text. Raises as `remember`; a record that cannot be a
    document refuses all of them.
    """
    from pipeline.change.given import Columns, documents_of_files
    from pipeline.change.remember import remember

    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    names = [os.fspath(path) for path in several]
    with bank._lock:
        table = bank._open()
        own = Columns(table.metadata_fields)
        documents = documents_of_files(names, own, columns, text_column=text_column, id_column=id_column)
        return remember(table, bank._loaded, documents, update=update)


def update(bank: Bank, doc_id: str, text: str, /, **columns: Any) -> Remembered:
    """Replace a document's text in one commit. Columns that are not given keep their values.

    Encoding its corpus again leaves it so, unless the corpus has a new text for it. Raises NotInBank.
    """
    from pipeline.bank.lookup import require_document
    from pipeline.change.given import Columns, documents_given
    from pipeline.change.remember import remember

    with bank._lock:
        table = bank._open()
        documents = documents_given(text, Columns(table.metadata_fields), columns, doc_id=doc_id)
        table.reload()
        require_document(table, doc_id)
        return remember(table, bank._loaded, documents, update=True)


def edit(bank: Bank, chunk_id: str, old: str, new: str, *, method: str = "encode", steps: int | None = None) -> Edited:
    """Replace a few characters of one chunk; its document recalls to the changed text from then on.

    `method`: "encode" encodes the new text; "refine" takes optimizer steps from the stored latents, `steps` at most
    (10); "patch" leaves latents and embedding, which the next `tend` encodes, and costs one verifying pass. The chunk
    has another id afterwards: `Edited.chunk_ids`. Raises NotInBank; Refusal where the old text does not stand there
    just once.
    """
    from model.edit import STEPS
    from pipeline.change.edit import edit

    with bank._lock:
        table = bank._open()
        return edit(table, bank._loaded, chunk_id, old, new, method=method, steps=_steps(steps, STEPS))


def edit_everywhere(
    bank: Bank,
    old: str,
    new: str,
    *,
    filter: Filter | None = None,
    method: str = "encode",
    steps: int | None = None,
    dry_run: bool = False,
    on_progress: Told = lambda done, of: None,
) -> Edited:
    """Replace a text wherever it stands, in all documents or in those with a row that `filter` is true of.

    All of them are recalled to look for it. It is one commit: all places or none. `dry_run` lists the places alone.
    `on_progress` is told how many chunks are recalled, and of how many (None with a filter).
    """
    from model.edit import STEPS
    from pipeline.change.edit import edit_everywhere

    with bank._lock:
        table = bank._open()
        return edit_everywhere(
            table,
            bank._loaded,
            old,
            new,
            where=expression(filter, table.schema),
            method=method,
            steps=_steps(steps, STEPS),
            dry_run=dry_run,
            on_progress=on_progress,
        )


def encode_due(table: Table, load_codec: Callable[[], Codec], *, dry_run: bool) -> int:
    """Encode the chunks that edits have only patched, or count them; BusyError beside a job that no tend may go beside.

    Loads no codec where there is none to encode.
    """
    from pipeline.bank.presence import refuse_beside

    refuse_beside(table.folder)
    table.reload()
    due = count_due(table)
    if dry_run or not due:
        return due
    from pipeline.change.edit import encode_due

    return encode_due(table, load_codec)


def _steps(asked: int | None, usual: int) -> int:
    if asked is not None and asked < 1:
        raise Refusal(f"steps is {asked}; it must be at least 1")
    return usual if asked is None else asked
