"""A bank as a corpus: its documents in work units, planned from the rows' ids and hashes alone.

So a bank is encoded anew by the same job as files are, with its resume and its promises. A unit's spans are runs of
rows in the bank's files, which never change; pipeline/encode/recall_work.py makes texts of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import groupby
from typing import NamedTuple

import pyarrow.dataset as ds

from model.refusal import Refusal
from pipeline.bank.bank import Bank
from pipeline.corpus.corpus import InputFile, Span
from pipeline.corpus.documents import ColumnRoles
from pipeline.plan.plan import Plan
from pipeline.plan.plan_file import Counts, Planned, PlanWriter
from pipeline.plan.units import Unit, unit_id_of
from pipeline.schema import CHAR_END, DOC_HASH, DOC_ID
from pipeline.storage import storage
from pipeline.storage.index import full_disk, temporary_index

FORMAT = 1  # a change to what such a plan means gives every one another name
ROWS = "rows"  # the format of an input file that is one of a bank's
_RUNS = "CREATE TABLE runs (doc_id TEXT, doc_hash TEXT, file INTEGER, first INTEGER, count INTEGER, chars INTEGER)"
_SPLIT = "SELECT doc_id FROM runs GROUP BY doc_id HAVING count(*) > 1"


class Run(NamedTuple):
    """Rows of one document that stand together: all of it, mostly."""

    doc_id: str
    doc_hash: str
    file: int  # its place among the bank's files
    first: int  # row in the file
    count: int
    chars: int  # code points up to its end


def plan_bank(bank: Bank, *, unit_chunks: int, folder: str, scratch: str | None = None) -> Plan:
    """The plan of a bank's documents, from `folder` if this version was planned before.

    A new plan is stored in `folder`, or in `scratch` where one is given. Raises Refusal for a bank without documents.
    """
    columns = columns_of(bank)
    made_of = (FORMAT, bank.table.metadata().id, bank.version, unit_chunks)
    name = blake2b(repr(made_of).encode(), digest_size=16).hexdigest() + ".plan.parquet"
    with suppress(FileNotFoundError, ValueError):  # none, or a torn one: plan anew
        return Plan(storage.join(storage.absolute(folder), name), columns)
    uri = storage.join(storage.absolute(scratch or folder), name)
    with storage.whole_file(uri) as file, PlanWriter(file, columns.metadata_fields) as writer:
        counts = _write(bank, unit_chunks, writer)
        if not counts.units:
            raise Refusal(f"{bank.folder.uri} holds no documents: there is nothing to encode anew")
        writer.finish(counts)
    return Plan(uri, columns)


def columns_of(bank: Bank) -> ColumnRoles:
    """The bank's metadata, as what is read of its documents."""
    fields = bank.metadata_fields
    return ColumnRoles(metadata=tuple(field.name for field in fields), metadata_fields=fields)


def _write(bank: Bank, unit_chunks: int, writer: PlanWriter) -> Counts:
    files = bank.files()
    inputs = [InputFile(f"{bank.folder.uri}/{name}", name, ROWS, "", 0, 0) for name in files]
    tally = dict.fromkeys(("documents", "bytes", "chunks", "units"), 0)
    for runs in _units(_index(bank, files), unit_chunks):
        planned = _planned(runs, inputs)
        writer.add(planned)
        tally["units"] += 1
        for name in ("documents", "bytes", "chunks"):
            tally[name] += getattr(planned.unit, name)
    return Counts(files=len(files), **tally)


def _index(bank: Bank, files: list[str]) -> sqlite3.Connection:
    """Every run of the bank, in a table on disk."""
    index = temporary_index(_RUNS)
    with full_disk():
        for place, name in enumerate(files):
            index.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", _runs(bank, place, name))
    return index


def _runs(bank: Bank, place: int, name: str) -> Iterator[Run]:
    file = ds.dataset([name], bank.schema, "parquet", bank.folder.filesystem)
    columns = file.to_table(columns=[DOC_ID, DOC_HASH, CHAR_END]).to_pydict()
    first = 0
    for (doc_id, doc_hash), rows in groupby(zip(*columns.values(), strict=True), key=lambda row: row[:2]):
        ends = [end for *_, end in rows]
        yield Run(doc_id, doc_hash, place, first, len(ends), ends[-1])
        first += len(ends)


def _units(index: sqlite3.Connection, unit_chunks: int) -> Iterator[list[Run]]:
    """Runs of whole documents, as many as a unit takes; then each document that is split, in a unit of its own."""
    waiting, load = list[Run](), 0
    for row in index.execute(f"SELECT * FROM runs WHERE doc_id NOT IN ({_SPLIT}) ORDER BY rowid"):
        run = Run(*row)
        if waiting and load + run.count > unit_chunks:
            yield waiting
            waiting, load = [], 0
        waiting.append(run)
        load += run.count
    if waiting:
        yield waiting
    split = index.execute(f"SELECT * FROM runs WHERE doc_id IN ({_SPLIT}) ORDER BY doc_id, rowid")
    for _, rows in groupby(split, key=lambda row: row[0]):
        yield [Run(*row) for row in rows]


def _planned(runs: list[Run], inputs: list[InputFile]) -> Planned:
    documents = list(dict.fromkeys((run.doc_id, run.doc_hash) for run in runs))
    doc_ids, doc_hashes = ([each[i] for each in documents] for i in (0, 1))
    unit = Unit(
        unit_id_of(doc_ids, doc_hashes, []),
        tuple(_spans(runs, inputs)),
        documents=len(documents),
        chunks=sum(run.count for run in runs),
        bytes=sum(run.chars for run in runs),
        rejected=0,
    )
    return Planned(unit, doc_ids, [bytes.fromhex(doc_hash) for doc_hash in doc_hashes])


def _spans(runs: list[Run], inputs: list[InputFile]) -> Iterator[Span]:
    """Runs that follow each other in a file are one span."""
    first, end = runs[0], runs[0]
    for run in runs[1:]:
        if (run.file, run.first) != (end.file, end.first + end.count):
            yield Span(inputs[first.file], first.first, end.first + end.count - first.first)
            first = run
        end = run
    yield Span(inputs[first.file], first.first, end.first + end.count - first.first)
