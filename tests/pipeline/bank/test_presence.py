"""A job is seen while it lives, whoever kills it, and says how it ended where it can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.bank import presence as presence_module
from pipeline.bank.presence import (
    GONE_SECONDS,
    JOBS,
    BusyError,
    Presence,
    active_jobs,
    forget,
    job_records,
    refuse_beside,
)
from pipeline.storage.folder import Folder

ROOT = Path(__file__).parents[3]
LIVING = """
import sys, time
from pipeline.storage.folder import Folder
from pipeline.bank.presence import Presence
with Presence(Folder(sys.argv[1]), "encode") as job:
    job.begin(state="encoding", units=7)
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def process(tmp_path):
    """Another process that says it encodes into the folder."""
    command = [sys.executable, "-c", LIVING, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def only(folder):
    (record,) = job_records(folder)
    return record


def test_a_job_that_never_began_leaves_nothing_behind(folder):
    with Presence(folder, "encode"):
        pass
    assert os.listdir(folder.uri) == []


def test_a_job_is_alive_until_its_block_ends_and_then_finished(folder):
    with Presence(folder, "encode") as job:
        job.begin(units=3)
        assert only(folder).is_alive() and only(folder).units == 3
    assert (only(folder).state, only(folder).is_alive(), only(folder).error) == ("finished", False, None)


@pytest.mark.parametrize(
    "error, state, said", [(KeyboardInterrupt(), "stopped", None), (OSError("disk\nfull"), "failed", "disk full")]
)
def test_how_a_job_ended_is_written_down(folder, error, state, said):
    with pytest.raises(type(error)), Presence(folder, "encode") as job:
        job.begin()
        raise error
    assert (only(folder).state, only(folder).error) == (state, said)


def test_a_beat_says_what_was_last_known_and_calls_back(folder, monkeypatch):
    monkeypatch.setattr(presence_module, "BEAT_SECONDS", 0.01)
    beats = []
    with Presence(folder, "encode", on_beat=lambda: beats.append(1)) as job:
        job.begin()
        job.update(encoded=5)
        end = time.monotonic() + 60
        while only(folder).encoded != 5 or not beats:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_job_of_another_process_is_seen_and_gone_as_soon_as_it_is_killed(folder, process):
    assert [(job.pid, job.units) for job in active_jobs(folder, "encode")] == [(process.pid, 7)]
    process.kill()
    while process.returncode is None and only(folder).is_alive():  # not waited for: a zombie lives no more
        time.sleep(0.01)
    assert active_jobs(folder, "encode") == []
    assert only(folder).state == "encoding"  # it could not say that it ended


def test_another_process_with_the_same_number_is_not_the_job(folder):
    with Presence(folder, "encode") as job:
        job.begin()
        assert not replace(job.record, born=job.record.born - 100).is_alive()


def test_a_job_on_another_host_is_gone_once_it_has_been_silent(folder):
    with Presence(folder, "encode") as job:
        elsewhere = replace(job.record, place="another host", pid=1)
        assert elsewhere.is_alive(elsewhere.beat + GONE_SECONDS - 1)
        assert not elsewhere.is_alive(elsewhere.beat + GONE_SECONDS + 1)


def test_a_job_refuses_beside_another_but_not_beside_itself(folder):
    with Presence(folder, "tend") as job:
        job.begin()
        refuse_beside(folder, "encode")
        refuse_beside(folder, "tend", but=job.record.job)
        with pytest.raises(BusyError, match=rf"`nextmem tend` is at work on {folder.uri} \(process {os.getpid()} on "):
            refuse_beside(folder, "tend")


def test_a_full_disk_at_the_end_does_not_hide_the_job_s_own_error(folder, monkeypatch):
    with pytest.raises(ValueError, match="its own"), Presence(folder, "encode") as job:
        job.begin()
        monkeypatch.setattr(Folder, "put", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        raise ValueError("its own")


def test_records_come_newest_first_and_can_be_forgotten(folder):
    for _ in range(3):
        with Presence(folder, "encode") as job:
            job.begin()
    records = job_records(folder)
    assert [record.started for record in records] == sorted((r.started for r in records), reverse=True)
    forget(folder, records[0])
    assert job_records(folder) == records[1:]


def test_fields_of_a_newer_version_are_passed_over_and_junk_is_named(folder):
    with Presence(folder, "encode") as job:
        folder.put(f"{JOBS}/newer.json", json.dumps(asdict(job.record) | {"mood": "good"}).encode())
        assert only(folder) == job.record
        folder.put(f"{JOBS}/torn.json", b'{"job"')
        with pytest.raises(ValueError, match=r"_jobs/torn\.json is no record of a job"):
            job_records(folder)


def test_the_rate_and_what_is_left_of_the_time(folder):
    record = replace(Presence(folder, "encode").record, state="encoding", chunks=100, encoded=25, seconds=5.0)
    assert (record.chunks_per_second, record.eta_seconds) == (5.0, 15.0)
    assert replace(record, encoded=0).eta_seconds is None and replace(record, state="finished").eta_seconds is None
