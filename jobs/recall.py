"""`nextmem recall`: exact text to stdout, or an error that names the row."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

from jobs.opened import load_bank_codec, open_bank
from jobs.output import emit, share
from pipeline.bank import Bank
from pipeline.decode import COLUMNS, InexactRecall, Recalled, recall
from pipeline.lookup import by_chunk_id, by_doc_id


def run_recall(
    uri: str,
    *,
    chunk: str | None,
    doc: str | None,
    patched: bool,
    backbone: str | None,
    batch_size: int | None,
    as_json: bool,
) -> bool:
    """Print the text of one chunk, one document, or all documents. Returns whether every row was as asked for.

    Without --json the texts follow one another just as they stood, documents parted by a line feed; a row that is not
    exact is never printed as if it were.
    """
    bank = open_bank(uri)
    rows = _rows(bank, chunk, doc)
    codec = load_bank_codec(bank, backbone=backbone)
    recalled = recall(rows, codec, patched=patched, batch_size=batch_size)
    return _print(recalled, patched, as_json)


def as_record(row: Recalled) -> dict:
    return {name: getattr(row, name) for name in Recalled.__dataclass_fields__}


def _rows(bank: Bank, chunk: str | None, doc: str | None) -> Iterable[pa.RecordBatch]:
    if chunk is not None:
        return by_chunk_id(bank, [chunk]).to_batches()
    if doc is not None:
        return by_doc_id(bank, doc).to_batches()
    return bank.rows(COLUMNS)


def _print(rows: Iterator[Recalled], patched: bool, as_json: bool) -> bool:
    wrong, count, carried, last_doc = 0, 0, 0.0, None
    for row in rows:
        count, carried = count + 1, carried + (row.carried or 0.0)
        if patched and not row.exact:
            wrong += 1
            print(f"nextmem: {InexactRecall(row)}", file=sys.stderr)
        if as_json:
            emit(as_record(row))
        elif row.exact or not patched:
            sys.stdout.write(("\n" if last_doc not in (None, row.doc_id) else "") + row.text)
            last_doc = row.doc_id
    sys.stdout.flush()
    if count and not as_json:
        print(_note(count, carried / count, patched), file=sys.stderr)
    return wrong == 0


def _note(count: int, carried: float, patched: bool) -> str:
    if not patched:
        return f"\n{count} chunks as their latents alone give them; patches and raw ids correct {share(1 - carried)}."
    return f"\n{count} chunks; their latents carry {share(carried)} of the positions, patches and raw ids the rest."
