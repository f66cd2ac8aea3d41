"""The logger `nextmem`: a JSON object a line with the unit's id, and nothing on the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bank.commit import Receipt
from pipeline.encode.job_log import log, log_unit, logging_to
from pipeline.encode.outcome import Failure, Outcome

ROOT = Path(__file__).parents[3]


@pytest.fixture
def lines(tmp_path):
    """What a block writes to the log file."""
    with logging_to(tmp_path / "job.log"):
        yield lambda: [json.loads(line) for line in (tmp_path / "job.log").read_text().splitlines()]


def test_a_unit_s_line_says_who_did_what_in_how_long(lines):
    receipt = Receipt("u1", documents=2, chunks=9, tokens=800, rejected=1)
    log_unit("encoded", Outcome(receipt, worker="gpu 3", numbers={"seconds": 1.23456}))
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "INFO", "event": "encoded", "unit": "u1", "worker": "gpu 3", "documents": 2, "chunks": 9,
                    "tokens": 800, "rejected": 1, "seconds": 1.235}  # fmt: skip


def test_a_failed_unit_s_line_says_why(lines):
    log_unit("encoded", Outcome(failure=Failure("u1", "disk\nfull"), worker="gpu 3"))
    (line,) = lines()
    assert (line["level"], line["event"], line["unit"], line["error"]) == ("ERROR", "failed", "u1", "disk\nfull")


def test_a_log_is_appended_to(lines, tmp_path):
    log("first")
    with logging_to(tmp_path / "job.log"):
        log("second")
    assert [line["event"] for line in lines()] == ["first", "second", "second"]


def test_without_a_file_not_even_an_error_reaches_the_terminal():
    code = "from pipeline.encode.job_log import log, logging_to\nwith logging_to(None): log('failed', level=50)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), logging_to(tmp_path / "none" / "job.log"):
        pass
