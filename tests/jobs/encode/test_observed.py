"""A real encode as others see it: from another terminal, through Prometheus, in its logs; then killed and tended.

One job and one Ray for the whole file; each test holds one fact of what was seen.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner
from ports import free_ports
from prometheus_client.parser import text_string_to_metric_families

from nextmem.cli import main
from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems
from pipeline.encode.metrics import METRICS

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples" / "articles.jsonl"
PATIENCE = 300  # seconds; a busy machine starts Ray slowly
SEEN = {metric.scraped for metric in METRICS} - {"ray_nextmem_failed_units_total"}  # no unit fails here


@dataclass(frozen=True)
class Sampled:
    """One value of one scrape."""

    labels: dict[str, str]
    value: float


def command(*arguments):
    """The command in this process: (exit code, stdout, stderr)."""
    ran = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return ran.exit_code, ran.stdout, ran.stderr


def scraped(port):
    """{metric: its values} of ours, as the node serves them now; none while it serves nothing."""
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError:
        return {}
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "nextmem" in sample.name and not sample.name.endswith(("_bucket", "_sum")):
                name = sample.name.removesuffix("_count")
                found.setdefault(name, []).append(Sampled(sample.labels, sample.value))
    return found


def until(process, seen):
    """What `seen` says first that is true. Fails if the job ends before."""
    end = time.monotonic() + PATIENCE
    while not (found := seen()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"waited in vain for {seen}"
        time.sleep(0.1)
    return found


def parts(bank):
    return {path.name for path in Path(bank).glob("part-*.parquet")}


def logged(log_file):
    """The units that the driver's log says are committed, in its order."""
    return [line["unit"] for line in events(log_file.read_text().splitlines()) if line["event"] == "committed"]


def stopped_between_commits(process, bank, log_file):
    """Whether it now stands still with two files committed and one that is not, and has logged the last commit: its
    lines come just after it. Else it is let go on."""
    process.send_signal(signal.SIGSTOP)
    held = Bank.open(bank)
    committed = set(held.files())
    if len(committed) > 1 and parts(bank) - committed and len(logged(log_file)) >= len(held.finished_units()):
        return True
    process.send_signal(signal.SIGCONT)
    return False


def contents(bank):
    """Every row of the newest version, by chunk, in every column."""
    rows = [row for batch in Bank.open(bank).rows() for row in batch.to_pylist()]
    return {row["chunk_id"]: row for row in rows}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What was seen of a job while it ran, after it was killed between two commits, and after the bank was tended."""
    folder = tmp_path_factory.mktemp("observed")
    articles = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    rows = [row | {"id": f"{row['id']}-{copy}"} for copy in range(4) for row in articles]
    lines = [json.dumps(row) + "\n" for row in rows]
    corpus, bank, log_file = folder / "corpus.jsonl", folder / "bank", folder / "driver.log"
    corpus.write_text("".join("not JSON\n" + line for line in lines))
    [port] = free_ports(1)
    settings = {"unit_chunks": 8, "commit_seconds": 3, "metrics_port": port, "log_file": log_file, "threads": 1}
    process = subprocess.Popen(
        [sys.executable, "-m", "nextmem.cli", "encode", corpus, bank, "--backbone", "tiny-llama", "--actors", "1"]
        + [word for name, value in settings.items() for word in ("--set", f"{name}={value}")],
        cwd=ROOT,
        env=os.environ
        | {
            "NEXTMEM_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "RAY_metrics_report_interval_ms": "1000",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    told = {"bank": bank, "log_file": log_file, "pid": process.pid}
    try:
        told["metrics"] = until(process, lambda: (found := scraped(port)).keys() >= SEEN and found)
        told["status"] = json.loads(command("status", bank, "--json")[1])
        told["read"] = command("status", bank)[1]
        told["refused"] = command("tend", bank)
        until(process, lambda: stopped_between_commits(process, bank, log_file))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        told["out"], told["err"] = process.communicate()
        assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []
    finally:
        process.kill()
        process.communicate()
    told["status after"], told["read after"] = (
        json.loads(command("status", bank, "--json")[1]),
        command("status", bank)[1],
    )
    told["live"], told["parts"], told["rows"] = set(Bank.open(bank).files()), parts(bank), contents(bank)
    told["tended"] = command("tend", bank, "--set", "orphan_hours=0", "--json")
    return told


def test_every_metric_is_scraped_with_the_bank_s_name(story):
    for name in SEEN:
        assert {sample.labels["bank"] for sample in story["metrics"][name]} == {str(story["bank"])}, name


def test_the_worker_s_metrics_name_it_and_its_shares_are_shares(story):
    metrics = story["metrics"]
    workers = {sample.labels["worker"] for sample in metrics["ray_nextmem_chunks_total"]}
    assert len(workers) == 1 and workers.pop().startswith("actor ")
    for name in ("ray_nextmem_padding_share", "ray_nextmem_busy_share"):
        assert all(0 <= sample.value <= 1 for sample in metrics[name])
    (chunks,), (tokens,) = metrics["ray_nextmem_chunks_total"], metrics["ray_nextmem_tokens_total"]
    assert 0 < chunks.value < tokens.value <= 128 * chunks.value


def test_the_driver_s_metrics_agree_with_what_was_committed(story):
    value = {name: samples[0].value for name, samples in story["metrics"].items()}
    assert 0 < value["ray_nextmem_units_total"] <= story["status after"]["jobs"][0]["units"]
    assert 0 < value["ray_nextmem_done_chunks"] <= len(story["rows"]) < value["ray_nextmem_planned_chunks"]
    assert value["ray_nextmem_commit_age_seconds"] >= 0 and value["ray_nextmem_commit_seconds"] >= 1
    assert value["ray_nextmem_rejected_total"] > 0


def test_status_in_another_terminal_shows_the_job_at_work(story):
    status = story["status"]
    (job,) = status["jobs"]
    assert (status["active"], job["alive"], job["pid"], job["state"]) == (True, True, story["pid"], "encoding")
    assert (job["workers"], job["device"], job["failed_units"]) == (1, "cpu", 0)
    assert 0 < job["done_units"] < job["units"] and 0 < job["done_chunks"] <= job["encoded"] < job["chunks"]
    assert job["chunks_per_second"] > 0 and job["eta_seconds"] > 0 and job["rejected"] > 0
    assert f"process {story['pid']}, encoding" in story["read"] and "ETA" in story["read"]


def test_tend_refuses_beside_the_running_job(story):
    code, out, err = story["refused"]
    assert (code, out) == (1, "")
    assert err.startswith(f"nextmem: `nextmem encode` is at work on {story['bank']} (process {story['pid']} on ")


def test_status_knows_that_a_killed_job_is_gone(story):
    after = story["status after"]
    (job,) = after["jobs"]
    assert (after["active"], job["alive"], job["state"]) == (False, False, "encoding")
    assert f"none; the last one, process {story['pid']} on " in story["read after"]
    assert "is gone without a word" in story["read after"] and "ETA" not in story["read after"]


def test_tend_removes_exactly_what_the_killed_job_had_not_committed(story):
    code, out, err = story["tended"]
    said = json.loads(out)
    assert (code, err) == (0, "")
    assert set(said["orphans"]) == story["parts"] - story["live"] != set()
    assert (said["joined"], said["into"]) == (len(story["live"]), 1)
    assert parts(story["bank"]) == story["live"] | set(Bank.open(story["bank"]).files())


def test_the_rows_are_those_from_before_the_tend(story):
    bank = Bank.open(story["bank"])
    assert contents(story["bank"]) == story["rows"] and bank.count() == len(story["rows"]) > 0
    assert first_problems(bank) == []


def events(lines):
    return [json.loads(line) for line in lines if line.startswith('{"time"')]


def test_the_driver_s_log_has_a_line_for_each_committed_unit(story):
    committed = logged(story["log_file"])
    assert len(committed) == len(set(committed)) > 0
    assert set(committed) == Bank.open(story["bank"]).finished_units()
    lines = events(story["log_file"].read_text().splitlines())
    assert {"planned", "commit"} <= {line["event"] for line in lines}


def test_the_worker_logs_each_unit_into_ray_s_own_files(story):
    session = story["metrics"]["ray_nextmem_chunks_total"][0].labels["SessionName"]
    files = Path("/tmp/ray", session, "logs").glob("worker-*.err")
    lines = events(line for path in files for line in path.read_text(errors="replace").splitlines())
    encoded = {line["unit"]: line for line in lines if line["event"] == "encoded"}
    assert Bank.open(story["bank"]).finished_units() <= encoded.keys()
    for line in encoded.values():
        assert line["worker"].startswith("actor ") and line["chunks"] > 0 and line["seconds"] > 0


def test_the_command_says_that_ray_starts_and_prints_the_progress_bar_and_nothing_else(story):
    shown = story["err"].replace("\r", "\n").splitlines()
    lines = [line for line in shown if line.strip() and "chunk" not in line]
    assert (story["out"], lines) == ("", ["starting Ray on this machine"])
