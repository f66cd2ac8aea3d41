"""Two replicas on Ray Serve under load, one of them killed in the midst: what clients saw, and what is there after.

Clients are threads. Each recalls a document or remembers a note, in turn, without pause, and asks again where it gets
no answer. Half-way one replica is killed. Printed: requests a second, p50 and p95, requests that were asked again,
texts that were not those of the bank, notes that were answered and are not in the bank, and the seconds until another
replica stood in the dead one's place.

    python -m benchmarks.replicas --backbone tiny-llama [--seconds 60]
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import requests

import nextmem
from benchmarks.harness import Report, documents, options
from jobs.cluster.session import set_variables
from nextmem.serving.app import Limits
from nextmem.serving.replicas import NAME, deployment, served

PATIENCE = 240  # seconds, for another replica


@dataclass(slots=True)
class Seen:
    """What clients saw together."""

    seconds: list[float] = field(default_factory=list)
    again: int = 0
    wrong: int = 0
    kept: dict[str, str] = field(default_factory=dict)  # notes that were answered, and their texts


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def client(number: int, url: str, texts: dict[str, str], done: threading.Event, seen: Seen, lock) -> None:
    """One client, until it is told to stop."""
    session, ids = requests.Session(), list(texts)
    for turn in range(1_000_000):
        if done.is_set():
            return
        doc_id, note = ids[(number + turn) % len(ids)], f"note-{number}-{turn}"
        written = f"This is {note}."
        verb, body = ("recall", {"doc_id": doc_id}) if turn % 2 else ("remember", {"text": written, "doc_id": note})
        start = time.perf_counter()
        reply = answered(session, f"{url}/{verb}", body, done, seen, lock)
        if reply is None:
            return
        with lock:
            seen.seconds.append(time.perf_counter() - start)
            seen.wrong += verb == "recall" and reply.json()["text"] != texts[doc_id]
            if verb == "remember":
                seen.kept[note] = written


def answered(session, url: str, body: dict, done: threading.Event, seen: Seen, lock) -> requests.Response | None:
    """Asked until it is answered; None where the time is over before."""
    while not done.is_set():
        try:
            reply = session.post(url, json=body, timeout=120)
            if reply.ok:
                return reply
        except requests.RequestException:
            session = requests.Session()
        with lock:
            seen.again += 1
        time.sleep(0.1)
    return None


def standing() -> set[str]:
    """The names of the replicas that are there."""
    import ray

    names = {each["name"] for each in ray.util.list_named_actors(all_namespaces=True)}
    return {name for name in names if name.startswith("SERVE_REPLICA") and NAME in name}


def killed() -> float:
    """Kill a replica; seconds until another stands in its place."""
    import ray

    before, start = standing(), time.monotonic()
    ray.kill(ray.get_actor(min(before), namespace="serve"))
    while standing() <= before and time.monotonic() - start < PATIENCE:
        time.sleep(0.1)
    return time.monotonic() - start


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load; default: %(default)s")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--documents", type=int, default=6)
    arguments = parser.parse_args()
    set_variables()
    texts = {each.doc_id: each.text for each in islice(documents(arguments.corpus), arguments.documents)}
    report = Report("replicas", arguments.json, seconds=arguments.seconds, documents=len(texts))
    seen, lock, done = Seen(), threading.Lock(), threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        with nextmem.create(f"{folder}/bank", backbone=arguments.backbone) as bank:
            bank.remember([{"doc_id": doc_id, "text": text} for doc_id, text in texts.items()])
        made = deployment([f"{folder}/bank"], 2, gpus=False, limits=Limits(), token=None, by="latents", read_only=False)
        port = free_port()
        with served(made, host="127.0.0.1", port=port), ThreadPoolExecutor(arguments.clients) as pool:
            url = f"http://127.0.0.1:{port}/banks/bank"
            start = time.monotonic()
            running = [pool.submit(client, n, url, texts, done, seen, lock) for n in range(arguments.clients)]
            time.sleep(arguments.seconds / 2)
            report.line("another replica stands after", killed(), "s")
            time.sleep(max(0.0, start + arguments.seconds - time.monotonic()))
            done.set()
            for each in running:
                each.result()
            lasted = time.monotonic() - start
        with nextmem.open(f"{folder}/bank") as bank:
            there = {row.doc_id: row.text for row in bank.recalled()}
    report.line("requests a second", len(seen.seconds) / lasted)
    report.line("p50", 1000 * statistics.median(seen.seconds), "ms")
    report.line("p95", 1000 * statistics.quantiles(seen.seconds, n=20)[-1], "ms")
    report.line("asked again", seen.again)
    report.line("wrong texts", seen.wrong)
    report.line("notes answered", len(seen.kept))
    report.line("of them not in the bank", sum(there.get(note) != text for note, text in seen.kept.items()))
    report.close()


if __name__ == "__main__":
    main()
