"""`nextmem status` and `nextmem tend` on banks that no job of ours needs Ray for."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from works import jsonl

from pipeline.bank.bank import Bank
from pipeline.bank.presence import Presence, job_records
from pipeline.storage.folder import Folder

LONG_AGO = (1e9, 1e9)


@pytest.fixture
def bank(articles, tmp_path):
    """A bank of one's own, with a file that no commit names, written long ago."""
    shutil.copytree(articles, tmp_path / "bank")
    bank = Bank.open(tmp_path / "bank")
    Path(bank.folder.uri, "part-lost-0000-00.parquet").write_bytes(b"rows" * 100)
    os.utime(Path(bank.folder.uri, "part-lost-0000-00.parquet"), LONG_AGO)
    return bank


def listing(bank):
    return sorted(str(path.relative_to(bank.folder.uri)) for path in Path(bank.folder.uri).rglob("*") if path.is_file())


def rows(bank):
    return [row for batch in Bank.open(bank.folder.uri).rows() for row in batch.to_pylist()]


def test_tend_removes_the_orphan_checkpoints_the_log_and_leaves_the_rows(nextmem, bank):
    before, there = rows(bank), listing(bank)
    ran = nextmem("tend", bank.folder.uri)
    assert ran.code == 0 and ran.err == ""
    assert "orphans     1 files of 400 bytes removed: never committed, 1 h old or more\n" in ran.out
    gone, come = set(there) - set(listing(bank)), set(listing(bank)) - set(there)
    assert gone == {"part-lost-0000-00.parquet"}
    assert {name.split("/")[0] for name in come} == {"_delta_log", "_jobs"}
    assert rows(bank) == before


def test_a_dry_run_of_tend_says_the_same_and_does_nothing(nextmem, bank):
    there = listing(bank)
    (said,) = nextmem("tend", bank.folder.uri, "--dry-run", "--json").records
    assert (said["orphans"], said["orphan_bytes"], said["dry_run"]) == (["part-lost-0000-00.parquet"], 400, True)
    assert "would be removed" in nextmem("tend", bank.folder.uri, "--dry-run").out
    assert listing(bank) == there


def test_tend_refuses_beside_an_encode_and_so_does_its_dry_run(refused, bank):
    with Presence(bank.folder, "encode") as job:
        job.begin()
        there = listing(bank)
        for more in ([], ["--dry-run"]):
            assert refused("tend", bank.folder.uri, *more).startswith("`nextmem encode` is at work on ")
        assert "part-lost-0000-00.parquet" in there and set(there) <= set(listing(bank))


def test_an_encode_refuses_beside_a_tend_and_changes_nothing(refused, bank, tmp_path):
    corpus = jsonl(tmp_path / "corpus.jsonl", {"new": "A new document."})
    with Presence(bank.folder, "tend") as job:
        job.begin()
        assert refused("encode", corpus, bank.folder.uri).startswith("`nextmem tend` is at work on ")
    assert Bank.open(bank.folder.uri).version == bank.version
    assert [record for record in job_records(bank.folder) if record.kind == "encode"] == []


def test_a_young_orphan_stays_until_it_is_asked_for(nextmem, bank):
    os.utime(Path(bank.folder.uri, "part-lost-0000-00.parquet"))
    assert nextmem("tend", bank.folder.uri, "--json").records[0]["orphans"] == []
    assert nextmem("tend", bank.folder.uri, "--json", "--set", "orphan_hours=0").records[0]["orphans"] != []


def test_tend_forgets_jobs_that_ended_before_the_last_twenty(nextmem, bank):
    for _ in range(22):
        with Presence(bank.folder, "encode") as job:
            job.begin()
    (said,) = nextmem("tend", bank.folder.uri, "--json").records
    assert said["forgotten"] == 2 and len(job_records(bank.folder)) == 20 + 1  # and the tend itself


@pytest.mark.parametrize("command", ["tend", "status"])
def test_a_folder_that_is_no_bank_is_refused_and_left_alone(refused, tmp_path, command):
    assert "is not a memory bank" in refused(command, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_setting_that_makes_no_sense_is_refused(refused, bank):
    assert refused("tend", bank.folder.uri, "--set", "orphan_hours=-1") == "orphan_hours is -1; it must be 0 or more"


def test_status_of_a_bank_that_remembers_no_job(nextmem, articles):
    assert "writer  none, and none is remembered\n" in nextmem("status", articles).out
    (said,) = nextmem("status", articles, "--json").records
    assert (said["active"], said["jobs"], said["version"]) == (False, [], 1)
    assert said["last_commit_age_seconds"] > 0 and not Path(articles, "_jobs").exists()


def encoding(folder: Folder) -> Presence:
    job = Presence(folder, "encode")
    job.begin(state="encoding", workers=2, device="gpu", units=40, chunks=1000, encoded=250, seconds=50.0)
    job.begin(done_units=9, done_chunks=240, rejected=3, failed_units=1, last_commit=job.record.started)
    return job


def test_status_of_a_job_under_way(nextmem, bank):
    with encoding(bank.folder) as job:
        out = nextmem("status", bank.folder.uri).out
        (said,) = nextmem("status", bank.folder.uri, "--json").records
    assert f"writer  encode on {job.record.host}, process {os.getpid()}, encoding, heard of " in out
    assert "planned   40 units of about 1,000 chunks\n" in out
    assert "done      9 units, 240 chunks committed, 250 encoded (25.0 %)\n" in out
    assert "failed    1 units\n" in out and "rejected  3 documents\n" in out
    assert "rate      5.0 chunks/s\n" in out and "ETA       2 min 30 s\n" in out
    (job,) = said["jobs"]
    assert (said["active"], job["alive"], job["done_units"], job["eta_seconds"]) == (True, True, 9, 150.0)


def test_status_of_a_refine_under_way_speaks_of_its_chunks_and_of_no_units(nextmem, bank):
    with Presence(bank.folder, "refine") as refining:
        refining.begin(state="refining", chunks=7, done_chunks=3)
        out = nextmem("status", bank.folder.uri).out
    assert "writer  refine on" in out and "3 of 7 chunks committed" in out
    assert "units" not in out and "rejected" not in out


def test_status_says_when_a_writer_is_gone_without_a_word(nextmem, bank):
    with encoding(bank.folder) as job:
        record = job.record
    silent = replace(record, state="encoding", pid=1, place="another host", host="node-7", beat=record.beat - 3600)
    bank.folder.put(f"_jobs/{silent.job}.json", json.dumps(asdict(silent)).encode())
    out = nextmem("status", bank.folder.uri).out
    assert "none; the last one, process 1 on node-7, is gone without a word, last heard of 1 h 0 min ago" in out
    assert "ETA" not in out
