"""The command is killed, stopped and started again: what was committed stays, and no chunk is there twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples" / "articles.jsonl"
UNITS = ("--set", "unit_chunks=4", "--set", "commit_seconds=0.2", "--actors", "1")
PATIENCE = 300  # seconds; a busy machine starts Ray slowly


def start(bank, cache):
    """`nextmem encode` in a process group of its own, as a terminal runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "nextmem.cli", "encode", SAMPLES, bank, "--backbone", "tiny-llama", *UNITS],
        cwd=ROOT,
        env=os.environ | {"NEXTMEM_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def version(bank):
    return max((int(path.stem) for path in Path(bank, "_delta_log").glob("*.json")), default=0)


def wait_for(process, bank, wanted):
    """Until the bank has that version. Fails if the command ends before."""
    end = time.monotonic() + PATIENCE
    while version(bank) < wanted:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no commit came"
        time.sleep(0.05)


def contents(bank, at=None):
    """{chunk_id: text_hash} of a version; fails where a chunk is there twice."""
    rows = [row for batch in Bank.open(bank, version=at).rows(["chunk_id", "text_hash"]) for row in batch.to_pylist()]
    found = {row["chunk_id"]: row["text_hash"] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Killed after two commits, killed after two more, stopped with Ctrl-C after one more, then left to finish."""
    bank, cache = tmp_path_factory.mktemp("killed") / "bank", tmp_path_factory.mktemp("cache")
    told = {"bank": bank, "held": {}}
    for _ in range(2):
        process = start(bank, cache)
        wait_for(process, bank, version(bank) + 2)
        process.kill()
        process.communicate()
        told["held"][version(bank)] = contents(bank)
    process = start(bank, cache)
    wait_for(process, bank, version(bank) + 1)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to everything that it runs
    told["stopped"] = *process.communicate(timeout=PATIENCE), process.returncode
    told["held"][version(bank)] = contents(bank)
    process = start(bank, cache)
    told["finished"] = *process.communicate(timeout=PATIENCE), process.returncode
    return told


def test_the_last_run_finishes_what_the_others_left(story):
    out, err, code = story["finished"]
    assert code == 0, err
    documents = [line for line in out.splitlines() if line.startswith("documents")]
    assert "0 replaced" in documents[0] and " 0 held already" not in documents[0]


def test_every_chunk_of_every_article_is_there_exactly_once(story):
    bank = Bank.open(story["bank"])
    assert first_problems(bank) == []
    articles = [json.loads(line)["id"] for line in SAMPLES.read_text().splitlines()]
    assert sorted(doc_id for doc_id, _ in bank.documents()) == sorted(articles)
    assert len(contents(story["bank"])) == bank.count() == 733


def test_versions_from_before_a_kill_are_untouched_and_only_grow(story):
    held = [contents(story["bank"], at) for at in sorted(story["held"])]
    assert held == [story["held"][at] for at in sorted(story["held"])]
    for before, after in zip(held, [*held[1:], contents(story["bank"])], strict=True):
        assert before.items() <= after.items()


def test_every_run_went_on_where_the_last_one_stopped(story):
    sizes = [len(story["held"][at]) for at in sorted(story["held"])]
    assert 0 < sizes[0] < sizes[1] < sizes[2] < 733


def test_ctrl_c_says_how_to_go_on_without_a_traceback(story):
    out, err, code = story["stopped"]
    assert code == 130 and out == ""
    assert err.rstrip().endswith("stopped; what was finished is committed. Run the same command again to go on.")
    assert "Traceback" not in err and "Exception" not in err


def test_stderr_says_that_ray_starts_and_holds_the_progress_bar_and_nothing_else(story):
    _, err, _ = story["finished"]
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "chunk" not in line]
    assert lines == ["starting Ray on this machine"]
