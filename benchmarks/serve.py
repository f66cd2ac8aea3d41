"""A server under load: 2, 8 and 32 clients ask it for texts; each answer is compared with what the bank was made of.

Clients are threads of this process, each with a connection of its own; the server is another process. A client asks
without pause: a search for k texts and a recall of a document, in turn. Printed for each number of clients: requests a
second, p50 and p95, errors, wrong texts, and requests that went to the codec together. The batching gain is requests a
second with as many clients against the same server with batches of one.

    python -m benchmarks.serve [--seconds 60]
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import requests

import nextmem
from benchmarks.harness import Report, documents, options

CLIENTS = (2, 8, 32)


@dataclass(slots=True)
class Load:
    """What clients found together."""

    seconds: list[float] = field(default_factory=list)
    lasted: float = 0.0  # until the last answer, which may come after the time is over
    errors: list[str] = field(default_factory=list)
    wrong: int = 0

    def percentile(self, share: float) -> float:
        """Seconds that so large a share of the requests took at most."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


@contextmanager
def served(bank: str, batch: int) -> Iterator[str]:
    """The bank's URL, for as long as the block runs."""
    command = [sys.executable, "-m", "nextmem.cli", "serve", bank, "--port", "0", "--batch", str(batch)]
    process = subprocess.Popen([*command, "--read-only"], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        yield line.split(" on ")[1].split()[0] + "/banks/bank"
    finally:
        process.terminate()
        process.wait()


def ask(url: str, texts: dict[str, str], stop: float, seed: int, load: Load, lock: threading.Lock) -> None:
    """One client, until the time is over."""
    rng, session = random.Random(seed), requests.Session()
    while time.monotonic() < stop:
        doc_id = rng.choice(list(texts))
        start = time.perf_counter()
        if rng.random() < 0.5:
            reply = session.post(f"{url}/recall", json={"doc_id": doc_id}, timeout=600)
            right = reply.ok and reply.json()["text"] == texts[doc_id]
        else:
            at = rng.randrange(max(1, len(texts[doc_id]) - 60))
            reply = session.post(f"{url}/search", json={"query": texts[doc_id][at : at + 60], "k": 3}, timeout=600)
            hits = reply.json()["hits"] if reply.ok else []
            right = all(hit["text"] == texts[hit["doc_id"]][hit["char_start"] : hit["char_end"]] for hit in hits)
        with lock:
            load.seconds.append(time.perf_counter() - start)
            load.errors += [] if reply.ok else [f"{reply.status_code} {reply.text[:80]}"]
            load.wrong += reply.ok and not right


def loaded(url: str, texts: dict[str, str], clients: int, seconds: float) -> Load:
    """So many clients for so long."""
    load, lock, start = Load(), threading.Lock(), time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        for client in pool.map(lambda seed: ask(url, texts, start + seconds, seed, load, lock), range(clients)):
            assert client is None
    load.lasted = time.monotonic() - start
    return load


def batch_size(url: str) -> tuple[float, float]:
    """(requests, batches) that the server has worked on."""
    lines = requests.get(url.split("/banks")[0] + "/metrics", timeout=60).text.splitlines()
    found = {line.split("{")[0]: float(line.split()[-1]) for line in lines if line.startswith("nextmem_serve_batch")}
    return found["nextmem_serve_batch_size_sum"], found["nextmem_serve_batch_size_count"]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each number of clients; default: %(default)s")
    parser.add_argument("--documents", type=int, default=24)
    arguments = parser.parse_args()
    texts = {each.doc_id: each.text for each in islice(documents(arguments.corpus), arguments.documents)}
    report = Report("serve", arguments.json, seconds=arguments.seconds, documents=len(texts))
    with tempfile.TemporaryDirectory() as folder:
        with nextmem.create(f"{folder}/bank", backbone=arguments.backbone) as bank:
            bank.remember([{"doc_id": doc_id, "text": text} for doc_id, text in texts.items()])
        rates: dict[tuple[int, int], float] = {}
        for batch in (32, 1):
            with served(f"{folder}/bank", batch) as url:
                loaded(url, texts, 2, 5)  # loads the codec
                for clients in CLIENTS:
                    before = batch_size(url)
                    load = loaded(url, texts, clients, arguments.seconds)
                    after = batch_size(url)
                    rates[batch, clients] = len(load.seconds) / load.lasted
                    name = f"{clients} clients, batches of {batch} at most"
                    told(report, name, load, before, after)
        for clients in CLIENTS:
            report.line(f"batching gain, {clients} clients", rates[32, clients] / rates[1, clients])
    report.close()


def told(report: Report, name: str, load: Load, before: tuple, after: tuple) -> None:
    """The lines of one number of clients."""
    report.line(f"{name}: requests a second", len(load.seconds) / load.lasted)
    report.line(f"{name}: p50", 1000 * statistics.median(load.seconds), "ms")
    report.line(f"{name}: p95", 1000 * load.percentile(0.95), "ms")
    report.line(f"{name}: requests a batch", (after[0] - before[0]) / max(1, after[1] - before[1]))
    report.line(f"{name}: errors", len(load.errors))
    report.line(f"{name}: wrong texts", load.wrong)
    for error in load.errors[:3]:
        print(f"    {error}")


if __name__ == "__main__":
    main()
