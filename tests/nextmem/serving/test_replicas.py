"""The app in replicas on Ray Serve: one of two is killed while clients ask, and nothing that was answered is lost."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from ports import free_ports
from works import ARTICLES

from nextmem.serving.app import Limits
from nextmem.serving.replicas import NAME, deployment

pytestmark = pytest.mark.ray


@pytest.fixture
def url(ray_session, articles, tmp_path):
    """Two replicas of a copy of the articles."""
    from ray import serve

    bank, (port,) = shutil.copytree(articles, tmp_path / "bank"), free_ports(1)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    made = deployment([str(bank)], 2, gpus=False, limits=Limits(), token="s3cret", by="latents", read_only=False)
    serve.run(made, name=NAME)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def ask(url, verb, **body):
    headers = {"Authorization": "Bearer s3cret"}
    return requests.post(f"{url}/banks/bank/{verb}", json=body, headers=headers, timeout=120)


def replicas():
    import ray

    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    return [name for name in names if name.startswith("SERVE_REPLICA") and NAME in name]


def test_a_replica_is_killed_and_nothing_that_was_answered_is_lost(url):
    import ray

    assert requests.post(f"{url}/banks/bank/recall", json={"doc_id": "fox"}, timeout=60).status_code == 401
    kept, wrong, done = [], [], threading.Event()

    def client(number):
        for turn in range(1000):
            if done.is_set():
                return
            doc_id, note = list(ARTICLES)[(number + turn) % 3], f"note-{number}-{turn}"
            answer = ask(url, "recall", doc_id=doc_id)
            wrong.extend([answer.text] if answer.ok and answer.json()["text"] != ARTICLES[doc_id] else [])
            if ask(url, "remember", text=f"This is {note}.", doc_id=note).ok:
                kept.append(note)

    with ThreadPoolExecutor(3) as clients:
        running = [clients.submit(client, number) for number in range(3)]
        while len(kept) < 3:
            time.sleep(0.1)
        before = replicas()
        ray.kill(ray.get_actor(before[0], namespace="serve"))
        at_kill = len(kept)
        deadline = time.monotonic() + 240
        while (set(replicas()) <= set(before) or len(kept) < at_kill + 3) and time.monotonic() < deadline:
            time.sleep(0.2)
        done.set()
        for each in running:
            each.result()
    assert len(before) == 2 and len(set(replicas()) - set(before)) == 1  # another one stands in its place
    assert wrong == [] and len(kept) >= at_kill + 3
    for note in kept:
        assert ask(url, "recall", doc_id=note).json()["text"] == f"This is {note}."
