"""Encode real articles, kill the driver with SIGKILL on the way, start it again: is every chunk there exactly once?

    python -m benchmarks.kill_resume --corpus articles.parquet --documents 500 --kills 2

Each kill comes after at least two more commits and before the last. Afterwards the commits made before each kill must
be untouched, byte for byte, and every document must recall to its source. Exits 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.corpus.corpus import Span, corpus_files
from pipeline.corpus.documents import ColumnRoles, Document
from pipeline.corpus.readers import read_span

COMMITS_BETWEEN = 2


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        sources = _sample(arguments.corpus, arguments.documents, Path(scratch, "articles.jsonl"))
        bank = Path(arguments.bank or Path(scratch, "bank"))
        command = [sys.executable, "-m", "nextmem.cli", "encode", str(Path(scratch, "articles.jsonl")), str(bank)]
        command += ["--set", f"commit_seconds={arguments.commit_seconds}", *arguments.encode]
        kept: dict[str, str] = {}
        for kill in range(arguments.kills):
            _run_until_killed(command, bank, _commits(bank) + COMMITS_BETWEEN)
            kept |= _hashes(bank)
            print(
                f"kill {kill + 1}: after {_commits(bank)} commits, {len(kept)} log and data files committed", flush=True
            )
        start = time.monotonic()
        subprocess.run(command, check=True)
        print(f"finished: {_commits(bank)} commits; the last run took {time.monotonic() - start:.0f} s", flush=True)
        _judge(bank, kept, sources)


def _judge(bank: Path, kept: dict[str, str], sources: dict[str, str]) -> None:
    after = _hashes(bank)
    changed = [name for name, digest in kept.items() if after.get(name) != digest]
    recalled = _recalled(bank)
    wrong = [doc_id for doc_id, text in sources.items() if recalled.get(doc_id) != text]
    verified = subprocess.run([sys.executable, "-m", "nextmem.cli", "verify", str(bank)]).returncode == 0
    print(f"commits before a kill changed afterwards: {len(changed)} of {len(kept)} files")
    print(f"documents that recall to their source: {len(sources) - len(wrong)} of {len(sources)}")
    print(f"documents nobody asked for: {len(set(recalled) - set(sources))}")
    print(f"nextmem verify: {'whole' if verified else 'PROBLEMS'}")
    sys.exit(bool(changed or wrong or set(recalled) - set(sources) or not verified))


def _run_until_killed(command: list[str], bank: Path, commits: int) -> None:
    """SIGKILL the driver once the log holds `commits` versions. Fails if the job ends before."""
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while _commits(bank) < commits:
        if job.poll() is not None:
            sys.exit(f"the job ended (exit code {job.returncode}) before {commits} commits: give it more documents")
        time.sleep(0.1)
    job.send_signal(signal.SIGKILL)
    job.wait()
    time.sleep(5)  # Ray's own processes end when they miss the driver


def _commits(bank: Path) -> int:
    return max([int(path.stem) for path in bank.glob("_delta_log/*.json") if path.stem.isdigit()], default=0)


def _hashes(bank: Path) -> dict[str, str]:
    """SHA-256 of each log entry and of each data file that the log names."""
    entries = [path for path in bank.glob("_delta_log/*.json") if path.stem.isdigit()]
    actions = [json.loads(line) for path in entries for line in path.read_text().splitlines()]
    files = [bank / action["add"]["path"] for action in actions if "add" in action]
    return {str(path.relative_to(bank)): hashlib.sha256(path.read_bytes()).hexdigest() for path in [*entries, *files]}


def _recalled(bank: Path) -> dict[str, str]:
    run = subprocess.run(
        [sys.executable, "-m", "nextmem.cli", "recall", str(bank), "--all", "--json"],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    texts: dict[str, str] = {}
    for row in sorted(map(json.loads, run.stdout.splitlines()), key=lambda row: row["position"]):
        texts[row["doc_id"]] = texts.get(row["doc_id"], "") + row["text"]
    return texts


def _sample(corpus: str, count: int, path: Path) -> dict[str, str]:
    """The first `count` documents, written as JSONL; their texts by id."""
    items = (located.item for file in corpus_files([corpus]) for located in read_span(Span(file), ColumnRoles()))
    documents = list(itertools.islice((item for item in items if isinstance(item, Document)), count))
    path.write_text("".join(json.dumps({"id": d.doc_id, "text": d.text}) + "\n" for d in documents))
    return {document.doc_id: document.text for document in documents}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="samples/articles.jsonl")
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--bank", help="default: a temporary folder")
    parser.add_argument("--commit-seconds", type=float, default=2.0)
    parser.add_argument("encode", nargs="*", help="further options of nextmem encode, after --")
    return parser.parse_args()


if __name__ == "__main__":
    main()
