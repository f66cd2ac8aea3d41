"""A server in a thread of this process, on a port of its own, with the tiny codec."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import requests
import uvicorn

import nextmem
from nextmem.serving.app import app, named


@dataclass(frozen=True)
class Client:
    """Asks a server as anybody would."""

    url: str
    memory: nextmem.Memory
    token: str | None = None

    def post(self, verb: str, bank: str = "bank", **body):
        return self.send(verb, bank, json=body)

    def send(self, verb: str, bank: str = "bank", **how):
        return requests.post(f"{self.url}/banks/{bank}/{verb}", headers=self.headers, timeout=60, **how)

    def get(self, path: str):
        return requests.get(f"{self.url}{path}", headers=self.headers, timeout=60)

    @property
    def headers(self) -> dict:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@contextmanager
def serving(bank, *, token=None, limits=None, read_only=False):
    """The bank, served; the server has ended when the block has."""
    memory = nextmem.Memory(bank, read_only=read_only)
    memories = named([memory])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app(memories, token=token, limits=limits), log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Client(f"http://127.0.0.1:{listening.getsockname()[1]}", memory, token)
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()
