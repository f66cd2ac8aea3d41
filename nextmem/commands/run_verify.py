"""`nextmem verify`: is every chunk there once, and does it recall exactly?"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
from tqdm import tqdm

from jobs.output import emit, interval, table
from model.tokens import text_hash
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.presence import refuse_beside
from pipeline.bank.recall import COLUMNS, InexactRecall, Recalled, recall
from pipeline.bank.tend import drop
from pipeline.bank.verify import Problem, problems

if TYPE_CHECKING:
    from model.codec import Codec

SHOWN = 20


def run_verify(
    uri: str, *, sample: int | None, backbone: str | None, repair: bool, as_json: bool, weights: bool = False
) -> bool:
    """Check files, rows and documents, then decode all rows or `sample` of them. Returns whether nothing is wrong.

    `weights`: hash the backbone's weight files whole, too.
    `repair`: files that are gone or torn leave the table first. Raises BusyError while another job is at work on it.
    """
    bank = open_bank(uri)
    found = list(problems(bank))
    damaged = [problem for problem in found if problem.is_file] if repair else []
    if damaged:
        dropped = _drop(bank, damaged)
        found = list(problems(bank))
    else:
        dropped = []
    total = bank.count()
    decoded = 0
    if not found and total:
        codec = load_bank_codec(bank, backbone=backbone)
        if weights:
            found.extend(_other_weights(codec, bank))
        decoded = min(total, sample or total)
        looks = {"disable": as_json, "file": sys.stderr, "mininterval": interval()}
        with tqdm(total=decoded, unit="chunk", desc="decoding", **looks) as bar:
            rows = recall(_sampled(bank, total, sample), codec, on_decoded=bar.update)
            found.extend(_wrong(rows, whole=sample is None, hashes=_document_hashes(bank) if sample is None else {}))
    _print(bank, total, decoded, found, damaged, dropped, as_json)
    return not found


def _other_weights(codec: Codec, bank: Bank) -> Iterator[Problem]:
    from model.codec_io import require_whole_weights

    try:
        require_whole_weights(codec, local_codec(bank.codec_path))
    except ValueError as error:
        yield Problem("the backbone", str(error))


def _drop(bank: Bank, damaged: list[Problem]) -> list[str]:
    refuse_beside(bank.folder, "encode", "tend")
    return drop(bank, [problem.where for problem in damaged])


def _sampled(bank: Bank, total: int, sample: int | None) -> Iterator[pa.RecordBatch]:
    """Every row, or `sample` of them at even distances."""
    wanted = {i * total // sample for i in range(min(sample, total))} if sample and sample < total else None
    seen = 0
    for batch in bank.rows(COLUMNS):
        picked = [i for i in range(batch.num_rows) if wanted is None or seen + i in wanted]
        seen += batch.num_rows
        if picked:
            yield batch.take(pa.array(picked))


def _wrong(rows: Iterable[Recalled], *, whole: bool, hashes: dict[str, str]) -> Iterator[Problem]:
    """Rows that do not recall exactly, and documents whose chunks do not add up to their text."""
    for doc_id, chunks in groupby(rows, key=lambda row: row.doc_id):
        text = []
        for row in chunks:
            text.append(row.text)
            if not row.exact:
                yield Problem(f"chunk {row.chunk_id}", str(InexactRecall(row)))
        if whole and text_hash("".join(text)) != hashes[doc_id]:
            yield Problem(f"document {doc_id!r}", "its chunks' texts together are not the text that was encoded")


def _document_hashes(bank: Bank) -> dict[str, str]:
    return dict(bank.documents())


def _print(
    bank: Bank,
    total: int,
    decoded: int,
    found: list[Problem],
    damaged: list[Problem],
    dropped: list[str],
    as_json: bool,
) -> None:
    if as_json:
        record = {"bank": bank.folder.uri, "chunks": total, "decoded": decoded, "problems": [str(p) for p in found]}
        emit(record | {"damaged": [str(p) for p in damaged], "dropped": dropped})
        return
    for problem in damaged:
        print(problem)
    if dropped:
        print(
            f"{len(dropped):,} files were taken out of the bank, those above with the other files of their units: "
            "run the same `nextmem encode` again to encode what is missing"
        )
    for problem in found[:SHOWN]:
        print(problem)
    more = f" (the first {SHOWN} are shown)" if len(found) > SHOWN else ""
    verdict = f"{len(found):,} problems{more}" if found else "whole: every chunk once, every hash right"
    table([("bank", bank.folder.uri), ("chunks", f"{total:,}, {decoded:,} decoded"), ("verdict", verdict)])
