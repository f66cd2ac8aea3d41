"""`tend --now`: not a byte of what was forgotten is left in any file of the bank, neither packed nor plain."""

from __future__ import annotations

import gzip
import json
import os
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from works import jsonl

from pipeline.bank import erase as erase_module
from pipeline.bank import tend as tend_module
from pipeline.bank.bank import PLAN, Bank
from pipeline.bank.bring_back import bring_back
from pipeline.bank.commit import commit, swap
from pipeline.bank.forget import forget
from pipeline.bank.info import info
from pipeline.bank.lookup import by_doc_id
from pipeline.bank.presence import Presence, job_records
from pipeline.bank.problems import first_problems
from pipeline.bank.rejected import rejected, write_rejected
from pipeline.bank.tend import tend
from pipeline.bank.transaction_log import list_transaction
from pipeline.corpus import spool
from pipeline.corpus.documents import ENCODER, ColumnRoles, Rejected
from pipeline.encode.bank_work import bank_work
from pipeline.plan.plan import plan_corpus

GONE = "anna-0042"
SECRET = "Ada has been treated for hay fever, on the ninth of May, by Dr Quince."
TEXTS = {"bear": "It eats honey.", GONE: SECRET, "zebra": "It has stripes."}
OWNERS = ["nobody", "Ada Lovelace of Marylebone", "somebody"]


@pytest.fixture
def bank(works, tmp_path, monkeypatch):
    """With text and metadata kept, a plan and a spool, a list of rejections, and a job that failed at the document."""
    works = works(TEXTS, metadata={"owner": OWNERS}, keep_text=True)
    commit(works.bank, [works.encode().receipt])
    bank = works.bank
    monkeypatch.setattr(spool, "WORTH_BYTES", 1)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(jsonl(tmp_path / "again.jsonl", TEXTS, owner=OWNERS).read_bytes()))
    plan_corpus([str(packed)], works.plan.columns, unit_chunks=1000, folder=f"{bank.folder.uri}/{PLAN}")
    lost = [
        Rejected(f"x.jsonl:{n}", name, "no room", text[:30], ENCODER) for n, (name, text) in enumerate(TEXTS.items())
    ]
    swap(bank, [], {}, [list_transaction(write_rejected(bank.folder, "some-unit", lost))])
    write_rejected(bank.folder, "another-unit", lost[:2])  # which nobody committed
    vectors = [embedding_bytes(row) for batch in bank.rows(["embedding"]) for row in batch.to_pylist()]
    bank.folder.put("_index/of-these-rows/vectors.faiss", b"".join(vectors))
    with suppress(RuntimeError), Presence(bank.folder, "encode") as job:
        job.begin()
        raise RuntimeError(f"{GONE!r} failed alone")
    return bank


def marks(bank) -> dict[str, bytes]:
    """What would give the document away, by what it is."""
    rows = by_doc_id(bank, GONE)
    found = {"id": GONE.encode(), "owner": OWNERS[1].encode(), "excerpt": SECRET[:30].encode()}
    found["document hash"] = rows["doc_hash"][0].as_py().encode()
    found["document hash, packed"] = bytes.fromhex(rows["doc_hash"][0].as_py())
    for number, row in enumerate(rows.to_pylist()):
        for name in ("chunk_id", "text_hash", "text"):
            found[f"{name} {number}"] = row[name].encode()
        for name in ("codes", "scales", "patch"):
            found[f"{name} {number}"] = row[name]
        found[f"embedding {number}"] = embedding_bytes(row)
    return found


def embedding_bytes(row: dict) -> bytes:
    return pa.array(row["embedding"], pa.float32()).buffers()[1].to_pybytes()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file as it lies there, with all that it holds unpacked after it."""
    return {str(path.relative_to(folder)): unpacked(path) for path in folder.rglob("*") if path.is_file()}


def unpacked(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        values = [column.combine_chunks() for column in pq.read_table(path).columns]
        footer = json.dumps(file.metadata.to_dict(), default=repr).encode()
        return raw + footer + b"".join(map(buffers, values)) + repr(pq.read_table(path).to_pylist()).encode()
    if path.name.endswith(".zst"):
        return raw + zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True).read()
    return raw


def buffers(values: pa.Array) -> bytes:
    return b"".join(buffer.to_pybytes() for buffer in values.buffers() if buffer is not None)


def found_in(bank, wanted: dict[str, bytes]) -> dict[str, set[str]]:
    """Which of the marks are in which folder of the bank ("" for the table's own)."""
    found: dict[str, set[str]] = {}
    for name, content in contents(Path(bank.folder.uri)).items():
        for what, mark in wanted.items():
            if mark in content:
                found.setdefault(name.rpartition("/")[0], set()).add(what.split(" ")[0])
    return found


def test_the_search_finds_the_document_before_and_still_after_a_forget(bank):
    wanted = marks(bank)
    before = found_in(bank, wanted)
    assert before[""] == {what.split(" ")[0] for what in wanted}
    assert {"id", "document", "owner", "excerpt"} <= before[PLAN] and {"id", "excerpt"} <= before["_rejected"]
    assert "id" in before["_jobs"] and {"id", "owner"} <= before["_delta_log"]
    assert before["_index/of-these-rows"] == {"embedding"}
    forget(bank, [GONE])
    assert found_in(bank, wanted) == before


def test_after_tend_now_not_a_byte_of_it_is_left_and_the_other_rows_are_as_they_were(bank):
    wanted, others = marks(bank), rows(bank)
    forget(bank, [GONE])
    done = tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert found_in(bank, wanted) == {}
    assert (done.rejected, len(done.plans), done.log_files > 0, done.forgotten) == (1, 3, True, 1)
    assert rows(bank) == [row for row in others if row["doc_id"] != GONE] and first_problems(reopened(bank)) == []
    assert sorted(document.doc_id for document in rejected(reopened(bank))) == ["bear", "zebra"]
    assert list(reopened(bank).forgotten().among(TEXTS)) == [GONE]


def test_what_is_left_of_the_bank_works_on(bank, works, tmp_path):
    job = Bank.open(bank.folder.uri)
    forget(bank, [GONE])
    tend(bank, orphan_hours=1, version_hours=168, now=True)
    with pytest.raises(FileNotFoundError, match="is cleaned: it cannot be brought back"):
        bring_back(bank)
    corpus = jsonl(tmp_path / "grown.jsonl", TEXTS | {"newt": "It swims."}, owner=[*OWNERS, "the pond"])
    columns = ColumnRoles(metadata=("owner",))
    for opened in (job, bank, reopened(bank)):  # the first stood on a version that is cleaned
        opened.reload()
        assert opened.arrivals() is not None and opened.finished_units() and info(opened).forgotten == 1
    work = bank_work(plan_corpus([str(corpus)], columns, unit_chunks=1000, folder=f"{bank.folder.uri}/{PLAN}"), job)
    assert (work.counts.documents, work.counts.held, work.counts.forgotten) == (1, 2, 1)


def test_a_dry_run_says_what_would_go_and_removes_nothing(bank):
    forget(bank, [GONE])
    there = contents(Path(bank.folder.uri))
    said = tend(bank, orphan_hours=1, version_hours=168, now=True, dry_run=True)
    assert (said.rejected, len(said.plans), len(said.superseded), said.log_files) == (1, 3, 1, bank.version)
    assert contents(Path(bank.folder.uri)) == there


@pytest.mark.parametrize("moment", ["compact", "rewrite_lists", "remove", "checkpoint", "drop_older_versions"])
@pytest.mark.parametrize("before", [True, False])
def test_a_tend_that_is_ended_at_any_moment_leaves_a_whole_bank_and_the_same_call_goes_on(
    bank, monkeypatch, moment, before
):
    wanted, real = marks(bank), getattr(tend_module, moment)
    forget(bank, [GONE])

    def ended(*arguments, **options):
        if not before:
            real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tend_module, moment, ended)
        tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert first_problems(reopened(bank)) == [] and {row["doc_id"] for row in rows(bank)} == {"bear", "zebra"}
    tend(reopened(bank), orphan_hours=1, version_hours=168, now=True)
    assert found_in(bank, wanted) == {}
    assert sorted(document.doc_id for document in rejected(reopened(bank))) == ["bear", "zebra"]


def test_half_of_the_log_s_older_entries_gone_leaves_a_bank_that_opens(bank, monkeypatch):
    forget(bank, [GONE])
    real, gone = erase_module.older_entries, []
    with monkeypatch.context() as patch:
        patch.setattr(erase_module, "older_entries", lambda bank: gone.append(real(bank)) or gone[0][:2])
        tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert len(gone[0]) > 2 and first_problems(reopened(bank)) == [] and info(reopened(bank)).documents == 2
    tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert len([name for name in os.listdir(Path(bank.folder.uri, "_delta_log")) if name.endswith(".json")]) == 1


def test_jobs_that_ended_well_are_remembered(bank):
    with Presence(bank.folder, "encode") as job:
        job.begin(encoded=100)
    tend(bank, orphan_hours=1, version_hours=168, now=True)
    assert sorted(record.kind for record in job_records(bank.folder)) == ["encode", "tend"]


def reopened(bank):
    return Bank.open(bank.folder.uri)


def rows(bank):
    every = [row for batch in reopened(bank).rows() for row in batch.to_pylist()]
    return sorted(every, key=lambda row: row["chunk_id"])
