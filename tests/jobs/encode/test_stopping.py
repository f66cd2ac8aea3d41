"""What a scheduler, `timeout` or a closed terminal sends: as Ctrl-C, with the signal's exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_encode_killed import PATIENCE, ROOT, start, version, wait_for

from pipeline.bank.bank import Bank
from pipeline.bank.presence import job_records
from pipeline.bank.problems import first_problems

SPOKEN = ("Traceback", "Exception", "PC: @", "*** SIGTERM", "stack trace")


def begun(*words, environment=None, **more):
    """The command in a session of its own, once it heeds SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nextmem.cli", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | (environment or {}),
        start_new_session=True,
        **more,
    )
    end = time.monotonic() + PATIENCE
    while not heeds(process.pid):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    return process


def heeds(pid: int) -> bool:
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> signal.SIGTERM - 1 & 1)


@pytest.fixture
def lasting(tmp_path, articles):
    """Commands that would take a while, for their corpus is a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "passages.jsonl")
    return {
        "evaluate": ["evaluate", "--data", tmp_path / "passages.jsonl", "--backbone", "tiny-llama"],
        "train": [
            "train",
            tmp_path / "run",
            "--data",
            tmp_path / "passages.jsonl",
            "--no-ray",
            "--backbone",
            "tiny-llama",
        ],
        "recall": ["recall", articles, "--all"],
    }


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
@pytest.mark.parametrize("name", ["evaluate", "train", "recall"])
def test_a_command_ends_without_a_trace_and_its_exit_code_says_why(lasting, name, number, code):
    process = begun(*lasting[name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code and not any(word in err for word in SPOKEN), err


def test_one_that_is_ignored_stays_ignored_as_under_nohup(lasting):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = begun(*lasting["recall"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=PATIENCE) and process.returncode == 0


def test_a_terminal_that_closes_ends_the_command_which_has_nobody_to_tell(lasting):
    near, far = pty.openpty()
    process = begun(*lasting["evaluate"], stdin=far, stdout=far, stderr=far)
    os.close(far)
    os.close(near)
    process.send_signal(signal.SIGHUP)
    assert process.wait(PATIENCE) == 129


@pytest.mark.ray
@pytest.mark.parametrize("how", ["one", "group"])
def test_sigterm_commits_what_is_finished_and_the_bank_goes_on(tmp_path, how):
    """`timeout` and batch systems send it to the command, and to all of its group, one after the other."""
    bank = tmp_path / "bank"
    process = start(bank, tmp_path / "cache")
    wait_for(process, bank, 1)
    process.terminate()
    if how == "group":
        os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143 and out == "", err
    assert err.rstrip().endswith("stopped; what was finished is committed. Run the same command again to go on.")
    assert not any(word in err for word in SPOKEN), err
    opened = Bank.open(bank)
    assert first_problems(opened) == [] and opened.count() > 0
    (record,) = job_records(opened.folder)
    assert (record.state, record.error) == ("stopped", None)
    status = [sys.executable, "-m", "nextmem.cli", "status", str(bank), "--json"]
    told = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["active"] is False and version(bank) == opened.version
