"""`nextmem serve` as a process: what it says, whom it lets in, and how it stops."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import requests
from works import ARTICLES

from nextmem.serving.token import is_loopback, token_for


@contextmanager
def served(*arguments):
    """(the process, its URL, what it had said by then)."""
    command = [sys.executable, "-m", "nextmem.cli", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = ""
    while "serving" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    port = re.search(r":(\d+) \(", said)[1]
    try:
        yield process, f"http://127.0.0.1:{port}", said
    finally:
        process.kill()
        process.wait()


def test_on_loopback_it_asks_for_no_token_and_stops_when_told(articles):
    name = articles.rsplit("/", 1)[-1]
    with served(articles, "--read-only") as (process, url, said):
        assert "token" not in said
        body = {"query": ARTICLES["fox"][:32], "k": 3}
        requests.post(f"{url}/banks/{name}/search", json=body, timeout=60)  # the codec is loaded now
        answers = []
        asking = [
            threading.Thread(
                target=lambda: answers.append(requests.post(f"{url}/banks/{name}/search", json=body, timeout=60))
            )
            for _ in range(4)
        ]
        for thread in asking:
            thread.start()
        while requests.get(f"{url}/health", timeout=60).json()["waiting"] == 0 and any(t.is_alive() for t in asking):
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join(60)
        assert process.wait(60) == 143
        assert [answer.status_code for answer in answers] == [200] * 4  # those at work were answered
        assert "Traceback" not in process.stderr.read()


def test_for_others_it_makes_a_token_and_says_it(articles):
    with served(articles, "--read-only", "--host", "0.0.0.0") as (_, url, said):
        token = re.search(r"the token: (\S{40,})", said)[1]
        assert requests.get(f"{url}/banks", timeout=60).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.get(f"{url}/banks", headers=headers, timeout=60).status_code == 200


def test_a_port_that_is_taken_is_refused(articles, refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refused("serve", articles, "--port", str(taken.getsockname()[1]))
    assert "can't be listened on" in line and "Give another --port" in line


def test_two_banks_of_one_name_are_refused(articles, tmp_path, refused):
    (tmp_path / "x").mkdir()
    name = articles.rsplit("/", 1)[-1]
    (tmp_path / "x" / name).symlink_to(articles)
    assert f"are both named {name}: rename one of them" in refused("serve", articles, tmp_path / "x" / name)


def test_where_there_is_no_bank_it_does_not_start(tmp_path, refused):
    assert "is not a memory bank" in refused("serve", tmp_path / "none")


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("example.org", False)],
)  # fmt: skip
def test_only_where_this_machine_is_alone_no_token_is_made(host, alone, monkeypatch):
    monkeypatch.delenv("NEXTMEM_TOKEN", raising=False)
    assert is_loopback(host) == alone
    token, made = token_for(host, None)
    assert (token is None, made) == (alone, not alone)
    assert token_for(host, "mine") == ("mine", False)
    monkeypatch.setenv("NEXTMEM_TOKEN", "theirs")
    assert token_for(host, None) == ("theirs", False)
