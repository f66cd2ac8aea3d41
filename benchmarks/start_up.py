"""How long a person waits: CPU seconds of `nextmem --help`, and what an encode job spends before its first unit.

    python -m benchmarks.start_up

Beside them a Python that only imports torch, which is what the command line avoids.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Ratio, Report, documents, options
from benchmarks.jobs import run_encode, write_corpus

HELP = [sys.executable, "-m", "nextmem.cli", "--help"]
IMPORT = [sys.executable, "-c", "import torch"]


def main() -> None:
    parser = options(__doc__, rounds=5)
    arguments = parser.parse_args()
    report = Report("start_up", arguments.json, backbone=arguments.backbone)
    help_, imports = [], []
    for _ in range(arguments.rounds):
        help_.append(cpu_seconds(HELP))
        imports.append(cpu_seconds(IMPORT))
    report.line("nextmem --help, CPU seconds (target under 0.3)", help_, "s")
    report.line("import torch, CPU seconds", imports, "s")
    report.ratio("nextmem --help over import torch", Ratio.of(help_, imports))
    few = [document for document, _ in zip(documents(arguments.corpus), range(4), strict=False)]
    for backbone in dict.fromkeys(["tiny-llama", arguments.backbone]):
        report.line(f"nextmem encode, {backbone}: start-up", [_encode(few, backbone) for _ in range(2)], "s")
    report.close()


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a command and its threads."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def _encode(texts, backbone: str) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_corpus(texts, Path(scratch, "corpus.parquet"))
        return run_encode(corpus, Path(scratch, "bank"), "--backbone", backbone)["start_up_seconds"]


if __name__ == "__main__":
    main()
