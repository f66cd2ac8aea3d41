"""An encode job that is about to be broken: its command, its processes, and what it has committed so far."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples" / "articles.jsonl"
UNIT_CHUNKS = 4  # by the planner's estimate: an article a unit, 48 units of about 15 chunks of the two-layer backbone
PATIENCE = 240.0  # seconds without an end after which a job counts as hung


class HungError(RuntimeError):
    """Something that should have happened did not."""


@dataclass(slots=True)
class Ended:
    """How one run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def last_words(self) -> str:
        lines = [line for line in self.err.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    @property
    def summary(self) -> dict | None:
        lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        return next((line for line in lines if line.get("event") == "summary"), None)


@dataclass(slots=True)
class Job:
    """One corpus, one bank; `start` may be called again and again, and starts the same command."""

    bank: Path
    address: str
    codec: Path
    logs: Path  # folder for what the command prints
    corpus: Path = SAMPLES
    settings: dict[str, object] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    running: list[subprocess.Popen] = field(default_factory=list)

    @property
    def command(self) -> list[str]:
        settings = {"unit_chunks": UNIT_CHUNKS, "commit_seconds": 1.0, "precision": "fp32"} | self.settings
        pairs = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        wanted = ["encode", str(self.corpus), str(self.bank), "--codec", str(self.codec), "--json"]
        return [sys.executable, "-m", "nextmem.cli", *wanted, *self.arguments, *pairs]

    def start(self) -> subprocess.Popen:
        """In a session of its own, so that a kill hits the driver and nothing of ours."""
        run = len(self.running)
        with open(self._log(run, "out"), "w") as out, open(self._log(run, "err"), "w") as err:
            process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=os.environ | {"RAY_ADDRESS": self.address},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def ended(self, process: subprocess.Popen, patience: float = PATIENCE) -> Ended:
        """Wait for its end. HungError where it does not come; the process is then killed."""
        try:
            code = process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise HungError(f"the command did not end within {patience:.0f} s") from None
        number = self.running.index(process)
        out, err = (self._log(number, name).read_text() for name in ("out", "err"))
        return Ended(code, out, err)

    def _log(self, run: int, name: str) -> Path:
        return self.logs / f"run-{run}.{name}"

    def finish(self, *, runs: int = 3) -> Ended:
        """Start the command until it ends well, at most `runs` times."""
        for _ in range(runs):
            ended = self.ended(self.start())
            if ended.code == 0:
                return ended
        return ended

    def stop(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


def wait_until(condition, process: subprocess.Popen | None = None, *, what: str, patience: float = PATIENCE) -> None:
    """Poll 50 times a second. HungError where the condition does not come, or `process` ends before."""
    end = time.monotonic() + patience
    while not condition():
        if process is not None and process.poll() is not None:
            raise HungError(f"the command ended with {process.returncode} before: {what}")
        if time.monotonic() > end:
            raise HungError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.02)
