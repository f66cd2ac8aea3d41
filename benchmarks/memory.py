"""Memory of `nextmem encode` on a corpus and on ten times that corpus: it must not grow.

    python -m benchmarks.memory --megabytes 1

The corpus is made up, with a seed; the backbone is the two-layer one, so that text passes fast and memory is the
pipeline's own. Peaks are of the largest process of a role: RSS, and RSS less what is shared with others (a worker that
has read a block of Ray's object store maps it, and the store is as large as it was started).
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.harness import Ratio, Report, options
from benchmarks.jobs import encode_command, summary_of, write_corpus
from pipeline.corpus.documents import Document, document_hash

TIMES = 10
DOCUMENT_WORDS = 400
ROLES = {"UnitEncoder": "encoder", "UnitReader": "reader", "ray::": "other Ray workers", "raylet": "Ray itself"}
SECONDS = 0.2  # between two looks


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(backbone="tiny-llama")
    parser.add_argument("--megabytes", type=float, default=1, help="of text, before times ten; default: %(default)s")
    parser.add_argument("--encode", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the job")
    arguments = parser.parse_args()
    report = Report("memory", arguments.json, backbone=arguments.backbone, megabytes=arguments.megabytes)
    peaks = [_peaks(report, arguments, arguments.megabytes * times) for times in (1, TIMES)]
    for role in peaks[0]:
        for kind, place in (("RSS", 0), ("own", 1)):
            before, after = (each[role][place] / 1e6 for each in peaks)
            name = f"{role}, {kind} MB"
            report.line(f"{name}: corpus, and times {TIMES}", f"{before:,.0f}, {after:,.0f}")
            target = {"most": 1.1} if role in ("driver", "encoder") else {}
            report.ratio(f"{name}: growth", Ratio.of([after], [before]), **target)
    report.close()


def _peaks(report: Report, arguments, megabytes: float) -> dict[str, tuple[float, float]]:
    """Role: peak RSS and peak RSS less what is shared, of its largest process, in bytes."""
    peaks: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    with tempfile.TemporaryDirectory() as scratch:
        corpus = write_corpus(made_up(megabytes), Path(scratch, "corpus.parquet"))
        command = encode_command(corpus, Path(scratch, "bank"), "--no-verify", "--backbone", arguments.backbone)
        command += [word for pair in arguments.encode for word in ("--set", pair)]
        with Path(scratch, "out").open("w") as out:
            job = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
            while job.poll() is None:
                for role, rss, own in look(job.pid):
                    peaks[role] = (max(peaks[role][0], rss), max(peaks[role][1], own))
                time.sleep(SECONDS)
        if job.returncode:
            raise SystemExit(f"nextmem encode ended with {job.returncode}")
        done = summary_of(Path(scratch, "out").read_text())
    report.line(f"{megabytes:g} MB of text: chunks, seconds", f"{done['chunks']:,}, {done['seconds']:.0f}")
    return dict(peaks)


def look(pid: int) -> Iterator[tuple[str, float, float]]:
    """(role, RSS, RSS less shared) of every process of the job."""
    try:
        driver = psutil.Process(pid)
        processes = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            memory, line = process.memory_info(), " ".join(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
        role = "driver" if process.pid == pid else next((r for sign, r in ROLES.items() if sign in line), "others")
        yield role, memory.rss, memory.rss - getattr(memory, "shared", 0)


def made_up(megabytes: float) -> Iterator[Document]:
    """Documents of 400 made-up words, the same for the same size."""
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(5000)]
    written, count = 0, 0
    while written < megabytes * 1e6:
        text = " ".join(source.choices(words, k=DOCUMENT_WORDS))
        yield Document(f"d{count}", text, document_hash(text), "made up")
        written, count = written + len(text), count + 1


if __name__ == "__main__":
    main()
