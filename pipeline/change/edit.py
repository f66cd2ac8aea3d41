"""Memory editing: a few characters of what a bank holds become others, in one chunk or wherever they stand.

Documents are recalled exactly, changed, and put back whole in one commit (pipeline/change/rewrite.py says what of them
is made anew, model/edit.py by which methods). Encoding the corpus again leaves an edited document alone as long as the
corpus has the text that was edited; a text that changes there too takes its place, as any changed text does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from model.edit import ENCODE, PATCH, STEPS, require_method
from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, ContendedError
from pipeline.bank.count import Count, Told
from pipeline.bank.due import due_documents
from pipeline.bank.lookup import by_chunk_id
from pipeline.bank.recall import COLUMNS, InexactRecall, recall
from pipeline.change.put import put
from pipeline.change.rewrite import Known, Rewritten, known, rewritten

if TYPE_CHECKING:
    from model.codec import Codec

AROUND = 24  # characters of an excerpt, on each side


@dataclass(frozen=True, slots=True)
class Place:
    """Where the old text stands, or stood."""

    doc_id: str
    chunk_id: str  # that it begins in, before the edit
    char_start: int  # in the document, code points
    excerpt: str  # with what stands around it


@dataclass(frozen=True, slots=True)
class Edited:
    """What one call did, or in a dry run would do. Sums are over the rows that were made."""

    bank: str
    version: int  # from which on it is so
    method: str
    places: tuple[Place, ...]
    documents: int
    chunk_ids: tuple[str, ...] = ()  # of the rows that were made: a chunk's id is that of its text
    fidelity_before: float = 0.0
    fidelity: float = 0.0
    patch_bytes_before: int = 0
    patch_bytes: int = 0
    dry_run: bool = False


def edit(
    bank: Bank,
    load_codec: Callable[[], Codec],
    chunk_id: str,
    old: str,
    new: str,
    *,
    method: str = ENCODE,
    steps: int = STEPS,
) -> Edited:
    """In one chunk of the newest version, on which `bank` stands afterwards.

    Raises NotInBank; Refusal where the old text does not stand in the chunk, or more than once; BusyError beside a
    tend.
    """

    def find(codec: Codec) -> list[tuple[Known, list[int]]]:
        doc_id = by_chunk_id(bank, [chunk_id]).column(schema.DOC_ID)[0].as_py()
        document = known(bank, codec, doc_id)
        return [(document, [_the_one(document, chunk_id, old)])]

    return _edited(bank, load_codec, find, old, new, method=method, steps=steps)


def edit_everywhere(
    bank: Bank,
    load_codec: Callable[[], Codec],
    old: str,
    new: str,
    *,
    where: pc.Expression | None = None,
    method: str = ENCODE,
    steps: int = STEPS,
    dry_run: bool = False,
    on_progress: Told = lambda done, of: None,
) -> Edited:
    """Wherever the old text stands in the newest version, in documents that have a row of `where`; in one commit.

    Each of these documents is recalled to look for it; `on_progress` is told how many chunks are, and of how many (None
    with `where`). Memory grows with the documents that change. `dry_run` says where it stands and changes nothing.
    Raises InexactRecall for a row that cannot be looked into.
    """

    def find(codec: Codec) -> list[tuple[Known, list[int]]]:
        documents = (known(bank, codec, doc_id) for doc_id in _candidates(bank, codec, old, where, on_progress))
        return [(document, places) for document in documents if (places := _places(document.text, old))]

    return _edited(bank, load_codec, find, old, new, method=method, steps=steps, dry_run=dry_run)


def encode_due(bank: Bank, load_codec: Callable[[], Codec]) -> int:
    """Encode the chunks that an edit has patched, so that latents and search know their new text; how many there were.

    In the newest version, on which `bank` stands afterwards. Loads no codec where there is none.
    """
    bank.reload()
    for _ in range(ATTEMPTS):
        doc_ids = due_documents(bank)
        if not doc_ids:
            return 0
        codec = load_codec()
        before = _ground(bank, doc_ids)
        changes = [(each, _patched(each)) for each in (known(bank, codec, doc_id) for doc_id in doc_ids)]
        done = rewritten(bank, codec, changes, ENCODE, steps=0)
        if put(bank, "edit", done.table, set(doc_ids), lambda b=before, d=doc_ids: _ground(bank, d) == b):
            return len(done.before)
    raise _contended(bank)


def _edited(
    bank: Bank,
    load_codec: Callable[[], Codec],
    find: Callable[[Codec], list[tuple[Known, list[int]]]],
    old: str,
    new: str,
    *,
    method: str,
    steps: int,
    dry_run: bool = False,
) -> Edited:
    """Find, change, put in; from the start again where another writer changed one of the documents meanwhile."""
    require_method(method)
    if not old or old == new:
        raise Refusal("there is nothing to replace: the old text is empty, or the new one is the same")
    bank.reload()
    if not dry_run:
        bank.add_columns()
    for _ in range(ATTEMPTS):
        codec = load_codec()
        found = find(codec)
        places = tuple(_place(document, at, len(old)) for document, starts in found for at in starts)
        if dry_run or not found:
            return Edited(bank.folder.uri, bank.version, method, places, len(found), dry_run=dry_run)
        doc_ids = {document.doc_id for document, _ in found}
        before = _ground(bank, doc_ids)
        changes = [(document, _new_texts(document.texts, starts, len(old), new)) for document, starts in found]
        done = rewritten(bank, codec, changes, method, steps=steps)
        if put(bank, "edit", done.table, doc_ids, lambda b=before, d=doc_ids: _ground(bank, d) == b):
            return _said(bank, method, places, len(found), done)
    raise _contended(bank)


def _said(bank: Bank, method: str, places: tuple[Place, ...], documents: int, done: Rewritten) -> Edited:
    return Edited(
        bank.folder.uri,
        bank.version,
        method,
        places,
        documents,
        chunk_ids=tuple(row[schema.CHUNK_ID] for row in done.made),
        fidelity_before=sum(row[schema.FIDELITY] or 0.0 for row in done.before),
        fidelity=sum(row[schema.FIDELITY] or 0.0 for row in done.made),
        patch_bytes_before=sum(len(row[schema.PATCH] or b"") for row in done.before),
        patch_bytes=sum(len(row[schema.PATCH] or b"") for row in done.made),
    )


def _the_one(document: Known, chunk_id: str, old: str) -> int:
    """Where the old text stands in its chunk. Raises Refusal, which says where it does stand."""
    at = next(i for i, row in enumerate(document.rows) if row[schema.CHUNK_ID] == chunk_id)
    begin = sum(map(len, document.texts[:at]))
    places = _places(document.texts[at], old)
    if len(places) == 1:
        return begin + places[0]
    name = f"chunk {chunk_id} (document {document.doc_id!r}, characters {begin} to {begin + len(document.texts[at])})"
    if places:
        stands = ", ".join(str(begin + place) for place in places)
        raise Refusal(f"{old!r} stands {len(places)} times in {name}, at {stands}: give more of the text around it")
    elsewhere = ", ".join(map(str, _places(document.text, old)))
    hint = f"stands in its document at {elsewhere}" if elsewhere else "stands nowhere else in its document either"
    raise Refusal(f"{old!r} does not stand in {name}; it {hint}")


def _places(text: str, old: str) -> list[int]:
    """Where it begins, each after the end of the one before."""
    places, start = [], text.find(old)
    while start >= 0:
        places.append(start)
        start = text.find(old, start + len(old))
    return places


def _new_texts(texts: Sequence[str], starts: Sequence[int], length: int, new: str) -> dict[int, str]:
    """Of the chunks that change, by position. What stands across a border goes into the chunk that it begins in."""
    changed, begin = {}, 0
    for at, text in enumerate(texts):
        end, parts, done = begin + len(text), [], begin
        for start in starts:
            if start < end and start + length > begin:
                parts += [text[done - begin : max(start, done) - begin], new if start >= begin else ""]
                done = min(start + length, end)
        if parts:
            changed[at] = "".join([*parts, text[done - begin :]])
        begin = end
    return changed


def _place(document: Known, start: int, length: int) -> Place:
    text = document.text
    ends = itertools.accumulate(map(len, document.texts))
    row = next(row for row, end in zip(document.rows, ends, strict=True) if start < end)
    excerpt = " ".join(text[max(0, start - AROUND) : start + length + AROUND].split())
    return Place(document.doc_id, row[schema.CHUNK_ID], start, excerpt)


def _candidates(bank: Bank, codec: Codec, old: str, where: pc.Expression | None, on_progress: Told) -> Iterator[str]:
    """Documents that hold the old text, or lie in several files, where it may stand across their border."""
    theirs = None
    if where is not None:
        doc_ids = {doc_id for batch in bank.rows([schema.DOC_ID], where) for doc_id in batch.column(0).to_pylist()}
        theirs = pc.field(schema.DOC_ID).isin(pa.array(sorted(doc_ids), pa.string()))
    count = Count(on_progress, bank.count() if where is None else None)
    found: dict[str, None] = {}
    rows = recall(bank.rows(COLUMNS, theirs), codec, on_decoded=count)
    for doc_id, run in itertools.groupby(rows, key=lambda row: row.doc_id):
        chunks = list(run)
        for row in chunks:
            if not row.exact:
                raise InexactRecall(row)
        if chunks[0].position > 0 or old in "".join(row.text for row in chunks):
            found[doc_id] = None
    yield from found


def _ground(bank: Bank, doc_ids: Collection[str]) -> list[tuple]:
    """What of these documents' rows says whether they are still the same."""
    columns = [schema.CHUNK_ID, schema.ENCODED_AT, schema.REFINE_STEPS, schema.EDITED]
    theirs = pc.field(schema.DOC_ID).isin(pa.array(sorted(doc_ids), pa.string()))
    rows = (row for batch in bank.rows(columns, theirs) for row in zip(*batch.to_pydict().values(), strict=True))
    return sorted(rows, key=lambda row: row[0])


def _patched(document: Known) -> dict[int, str]:
    return {at: document.texts[at] for at, row in enumerate(document.rows) if row[schema.EDITED] == PATCH}


def _contended(bank: Bank) -> ContendedError:
    return ContendedError(f"{bank.folder.uri}: others changed the same documents {ATTEMPTS} times: try again")
