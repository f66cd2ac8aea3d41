"""Ray Train around the same loop: one curve for any number of workers, and through deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from runs import fresh, invoke, losses, passages

from jobs.train.run_folder import RunFolder

pytestmark = pytest.mark.ray
STEPS = 20  # of a sub-stage: enough that a run is killed before it ends, on a busy machine too


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return passages(tmp_path_factory.mktemp("passages"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data) -> list[tuple[int, float]]:
    """The curve of one process without Ray."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    assert invoke(*fresh(run, data, "--no-ray", substage_steps=STEPS)).exit_code == 0
    return losses(run)


def near(curve: list[tuple[int, float]]) -> list[tuple[int, object]]:
    return [(step, pytest.approx(loss, rel=1e-3)) for step, loss in curve]


def test_two_workers_give_one_workers_curve(tmp_path, data, alone, ray_session):
    result = invoke(*fresh(tmp_path / "run", data, "--workers", "2", substage_steps=STEPS))
    assert result.exit_code == 0, result.output
    assert losses(tmp_path / "run") == near(alone)
    assert (tmp_path / "run" / "codec" / "codec.json").is_file()


def test_a_killed_worker_is_started_again_and_goes_on(tmp_path, data, alone, ray_session):
    """SIGKILL of one of two workers mid-run, from a thread beside the job; one more worker number on the way."""
    run = tmp_path / "run"
    first = invoke(*fresh(run, data, "--no-ray", "--minutes", "0.00001", substage_steps=STEPS))
    assert first.exit_code == 0 and len(losses(run)) == 1
    killer = subprocess.Popen([sys.executable, "-c", KILLER, str(os.getpid()), str(run)])
    result = invoke("train", str(run), "--workers", "2")
    assert killer.wait(60) == 0, "no worker was killed"
    assert result.exit_code == 0, result.output
    assert losses(run) == near(alone)


def test_a_killed_driver_leaves_a_run_that_goes_on(tmp_path, data, alone, ray_session):
    run = tmp_path / "run"
    words = fresh(run, data, "--workers", "2", substage_steps=STEPS)
    driver = subprocess.Popen(
        [sys.executable, "-m", "nextmem.cli", *words], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while driver.poll() is None and _steps(run) < 6:
        time.sleep(0.05)
    assert driver.poll() is None, "the run ended before it could be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert invoke("train", str(run)).exit_code == 0  # with one worker, where there were two
    assert losses(run) == near(alone)


def test_what_a_worker_refuses_is_one_line(tmp_path, data, ray_session):
    result = invoke(*fresh(tmp_path / "run", data, learning_rate=1e30, clip=1e30))
    assert result.exit_code == 1 and "in the batch of chunks" in result.stderr
    assert "Traceback" not in result.stderr


def _steps(run: Path) -> int:
    return len(losses(run)) if RunFolder(run).metrics.exists() else 0


KILLER = """
import pathlib, sys, time, psutil
metrics, workers, end = pathlib.Path(sys.argv[2], "metrics.jsonl"), [], time.time() + 240
def is_worker(process):
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False  # it has ended
while len(workers) < 2 and time.time() < end:
    workers = [p for p in psutil.Process(int(sys.argv[1])).children(recursive=True) if is_worker(p)]
    time.sleep(0.1)
while metrics.read_text().count('"gradient_norm"') < 5 and time.time() < end:
    time.sleep(0.02)
workers[-1].kill()
"""
assert psutil  # what the killer imports
