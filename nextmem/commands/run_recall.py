"""`nextmem recall`: exact text to stdout, or an error that names the row."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa
from tqdm import tqdm

from jobs.output import emit, interval, share
from pipeline.bank.bank import Bank
from pipeline.bank.lookup import by_chunk_id, by_doc_id
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.recall import COLUMNS, InexactRecall, Recalled, recall


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
    rows, total = _rows(bank, chunk, doc)
    codec = load_bank_codec(bank, backbone=backbone)
    shown = not as_json and not sys.stdout.isatty() and total > 1  # on a terminal the texts themselves are seen to come
    with tqdm(total=total, unit="chunk", desc="recalling", disable=not shown, file=sys.stderr, mininterval=interval(),
              leave=False) as bar:  # fmt: skip
        recalled = recall(rows, codec, patched=patched, batch_size=batch_size, on_decoded=bar.update)
        return _print(recalled, patched, as_json)


def as_record(row: Recalled) -> dict:
    return {name: getattr(row, name) for name in Recalled.__dataclass_fields__}


def _rows(bank: Bank, chunk: str | None, doc: str | None) -> tuple[Iterable[pa.RecordBatch], int]:
    """The rows, and how many they are."""
    if chunk is None and doc is None:
        return bank.rows(COLUMNS), bank.count()
    found = by_doc_id(bank, doc) if chunk is None else by_chunk_id(bank, [chunk])
    return found.to_batches(), found.num_rows


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
            sys.stdout.flush()  # each row as it comes, also into a pipe
            last_doc = row.doc_id
    if count and not as_json:
        print(_note(count, carried / count, patched), file=sys.stderr)
    return wrong == 0


def _note(count: int, carried: float, patched: bool) -> str:
    if not patched:
        return f"\n{count} chunks as their latents alone give them; patches and raw ids correct {share(1 - carried)}."
    return f"\n{count} chunks; their latents carry {share(carried)} of the positions, patches and raw ids the rest."
