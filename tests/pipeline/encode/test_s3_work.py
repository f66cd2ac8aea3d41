"""The workers of an encode job on s3://, without Ray: they fetch the codec, bear faults, and give up in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from object_store import KEY, SECRET
from works import ARTICLES, VERIFYING, jsonl

from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.identity import codec_identity
from pipeline.bank.problems import first_problems
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode import encode_work
from pipeline.encode.committer import UnfinishableError, commit_as_they_come
from pipeline.encode.encode_work import EncodeWork
from pipeline.encode.ledger import Ledger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.read_work import ReadWork
from pipeline.plan.plan import plan_corpus

pytestmark = pytest.mark.store


class S3Works:
    """A corpus of three units and a bank, both on S3, and the workers."""

    def __init__(self, place, plan, codec):
        self.plan = plan
        self.bank = Bank.create(f"s3://{place}/bank", codec_identity(codec, VERIFYING), codec=codec)
        self.options = EncodeOptions(
            bank=self.bank.folder.uri, codec=self.bank.codec_path, verifying=VERIFYING, columns=plan.columns
        )
        self.reader, self.encoder = ReadWork(self.options), EncodeWork(self.options, Ledger(), worker="me")

    def outcomes(self):
        for unit in self.plan.units():
            yield self.encoder.encode(self.reader.read(unit))


@pytest.fixture
def proxy(object_store):
    return object_store.proxy


@pytest.fixture
def works(place, object_store, tiny_codec_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path / "cache"))
    object_store.put(f"{place}/corpus/a.jsonl", jsonl(tmp_path / "a.jsonl", ARTICLES).read_bytes())
    plan = plan_corpus([f"s3://{place}/corpus"], ColumnRoles(), unit_chunks=1, folder=f"s3://{place}/bank/_plan")
    return S3Works(place, plan, tiny_codec_folder)


def test_workers_fetch_the_codec_once_into_the_cache(works, proxy, tiny_codec_folder):
    with proxy.counting() as requests:
        folder = local_codec(works.bank.codec_path)
    assert {request.path.rsplit("/", 1)[-1].split("?")[0] for request in requests} == {"codec.json", "reader.json"}
    assert codec_identity(folder, VERIFYING) == codec_identity(tiny_codec_folder, VERIFYING)


def test_a_codec_that_is_torn_on_the_store_is_refused(place, object_store, works, monkeypatch, tmp_path):
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path / "another"))
    codec = works.bank.codec_path.rpartition("/bank/")[2]
    object_store.put(f"{place}/bank/{codec}/codec.safetensors", b"torn")
    with pytest.raises(ValueError, match=r"is torn: its hash differs"):
        local_codec(works.bank.codec_path)
    assert not list((tmp_path / "another" / "codecs").glob("fetched-*[0-9a-f]"))


def test_a_corpus_on_s3_is_encoded_into_a_bank_on_s3(works):
    groups = list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    assert len(groups) == len(ARTICLES) and first_problems(works.bank) == []
    assert sorted(doc_id for doc_id, _ in works.bank.documents()) == sorted(ARTICLES)


def test_the_stored_plan_is_found_again_without_reading_the_corpus(place, works, proxy):
    with proxy.counting() as requests:
        again = plan_corpus([f"s3://{place}/corpus"], ColumnRoles(), unit_chunks=1, folder=f"s3://{place}/bank/_plan")
    assert list(again.unit_ids()) == list(works.plan.unit_ids())
    assert not [r for r in requests if r.method == "GET" and r.path.endswith(".jsonl")] and len(requests) <= 8


def test_a_changed_bank_plans_with_no_request_a_unit(works, proxy):
    list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    finished = works.bank.finished_units(works.plan.unit_ids())
    with proxy.counting() as requests:
        work = works.plan.against(works.bank.documents(but_of=finished), finished - {min(finished)})
    assert work.counts.units == 1 and len(requests) <= 2


@pytest.mark.parametrize("fault", ["503", "reset", "lost", "cut"])
def test_faults_in_reading_and_writing_reject_nothing(works, proxy, fault):
    """Every third request of the workers fails; a network error is never taken for a damaged document."""
    with proxy.failing(lambda request: fault if request.number % 3 == 0 else None) as failed:
        groups = list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    assert failed and sum(len(group) for group in groups) == len(ARTICLES)
    assert not [outcome for group in groups for outcome in group if outcome.failure or outcome.receipt.rejected]
    assert first_problems(Bank.open(works.bank.folder.uri)) == []


@pytest.mark.parametrize(("what", "where"), [
    (lambda request: request.is_upload, "/bank/part-"), (lambda request: "/corpus/" in request.path, "/corpus/a.jsonl"),
])  # fmt: skip
def test_a_store_that_stays_down_ends_the_job_with_one_line_and_a_rerun_finishes(works, proxy, what, where):
    down = proxy.failing(lambda request: "503" if what(request) else None)
    with down as failed, pytest.raises(UnfinishableError) as caught:
        list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    line = str(caught.value)
    assert line.startswith("s3://") and where in line and "the store answers 503 SlowDown. It was tried" in line
    assert "\n" not in line and len(failed) <= 2 * 3 * 4  # units begun, tries of a unit, tries of a request
    list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    assert first_problems(Bank.open(works.bank.folder.uri)) == [] and works.bank.count() > 0


def test_a_parquet_corpus_whose_reads_fail_is_not_taken_for_damaged(place, object_store, proxy, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"id": list(ARTICLES), "text": list(ARTICLES.values())})
    pq.write_table(rows, tmp_path / "a.parquet")
    object_store.put(f"{place}/corpus/a.parquet", (tmp_path / "a.parquet").read_bytes())
    cut = proxy.failing(lambda request: "cut" if request.path.endswith(".parquet") else None)
    with cut as failed, pytest.raises(OSError, match="AWS Error"):
        plan_corpus([f"s3://{place}/corpus"], ColumnRoles(), unit_chunks=9, folder=str(tmp_path / "plan"))
    assert failed
    plan = plan_corpus([f"s3://{place}/corpus"], ColumnRoles(), unit_chunks=9, folder=str(tmp_path / "plan"))
    assert (plan.counts.documents, plan.counts.rejected) == (len(ARTICLES), 0)


@pytest.mark.parametrize(("bank", "code", "words"), [
    ("{}", 0, ""), ("s3://no-such-bucket/bank", 1, "s3://no-such-bucket: there is no such bucket at http://127.0.0.1"),
])  # fmt: skip
def test_the_command_in_a_process_of_its_own_says_no_more_than_it_should(works, bank, code, words):
    """What a client says at a process's end is heard here too."""
    list(commit_as_they_come(works.bank, works.outcomes(), every=0))
    done = subprocess.run(
        [sys.executable, "-m", "nextmem.cli", "info", bank.format(works.bank.folder.uri), "--json"],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"NEXTMEM_DEBUG": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (code, code) and words in done.stderr
    assert SECRET not in done.stdout + done.stderr and KEY not in done.stdout + done.stderr
