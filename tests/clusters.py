"""A Ray cluster of its own for a test: a head with no task CPUs that asks for a token, and nodes that join it.

Every node has its own folder: nodes of one host that share one unpack a job's working_dir over each other's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import requests
from ports import free_ports

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
TRIES = 5  # to start a node
PATIENCE = 900  # seconds; a busy machine starts Ray slowly
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"  # holds no Python with Ray, as after `VENV/bin/ray start`


class RayCluster:
    """`url` of the dashboard and the `token` it asks for. To be closed."""

    def __init__(self):
        self.token = uuid.uuid4().hex
        self.starts: list[_Start] = []
        port, dashboard, client = free_ports(3)
        self.url, self.address = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}"
        self._start(
            *("--head", "--port", port, "--dashboard-port", dashboard, "--num-cpus", 0, "--num-gpus", 0),
            *("--ray-client-server-port", client),
        )
        try:
            self.wait_for(nodes=1)
        except AssertionError:
            self.close()
            raise

    def add_node(self, *, cpus: int, gpus: int = 0, pool: str) -> None:
        """Returns when the node has joined."""
        self._start("--address", self.address, "--num-cpus", cpus, "--num-gpus", gpus, "--labels", f"pool={pool}")
        self.wait_for(nodes=len(self.starts))

    def wait_for(self, *, nodes: int) -> None:
        """Until so many are alive. `ray start` gives up after 30 s, which a busy machine may need: then once more."""
        end, found = time.monotonic() + PATIENCE, []
        while sum(node["state"] == "ALIVE" for node in found) < nodes:
            for start in self.starts:
                start.keep_up()
            assert time.monotonic() < end, found
            time.sleep(0.5)
            with suppress(requests.RequestException):
                found = self.listed("nodes")

    def listed(self, what: str) -> list[dict]:
        """Ray's state API: nodes, actors."""
        return self.get(f"/api/v0/{what}?detail=true&limit=1000")["data"]["result"]["result"]

    def get(self, path: str) -> dict:
        reply = requests.get(self.url + path, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)
        reply.raise_for_status()
        return reply.json()

    def close(self) -> None:
        for start in reversed(self.starts):
            start.kill()

    def _start(self, *arguments: object) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_worker_niceness": "0"}
        environment |= {"PATH": BARE_PATH, "OMP_NUM_THREADS": "1"}
        self.starts.append(_Start([str(argument) for argument in arguments], environment))


class _Start:
    """`ray start --block` in a session and a folder of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str]):
        self.arguments, self.environment, self.tries = arguments, environment, 0
        self._launch()

    def keep_up(self) -> None:
        if self.process.poll() is not None:
            assert self.tries < TRIES, Path(self.folder, "start.log").read_text()
            self.kill()
            self._launch()

    def kill(self) -> None:
        """Everything of the session that the process leads, and nothing else."""
        for pid in psutil.pids():
            if _session(pid) == self.process.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        self.tries += 1
        self.folder = tempfile.mkdtemp(prefix="nm", dir="/tmp")  # short: a socket's path holds 107 characters
        words = [
            *(RAY, "start", *self.arguments, "--node-ip-address", "127.0.0.1", "--temp-dir", self.folder, "--block"),
            *("--object-store-memory", "150000000", "--dashboard-agent-listen-port", str(free_ports(1)[0])),
            *("--min-worker-port", "0", "--max-worker-port", "0", "--disable-usage-stats"),
        ]
        with open(Path(self.folder) / "start.log", "w") as log:
            self.process = subprocess.Popen(
                words, cwd="/", env=self.environment, stdout=log, stderr=log, start_new_session=True
            )


class BreakingProxy:
    """A forwarded port that breaks the first connection that follows a log, in the middle of it."""

    def __init__(self, target: str):
        self.target, self.broken = int(target.rpartition(":")[2]), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self.target)) as far:
            asked = near.recv(65536)
            limit = 600 if b"/logs/tail" in asked and not self.broken else None  # past the handshake, into the log
            self.broken = self.broken or limit is not None
            far.sendall(asked)
            threading.Thread(target=_pour, args=(near, far, None), daemon=True).start()
            _pour(far, near, limit)


def _pour(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    passed = 0
    with suppress(OSError):
        while data := source.recv(256):
            sink.sendall(data)
            passed += len(data)
            if limit is not None and passed > limit:
                sink.shutdown(socket.SHUT_RDWR)
                return


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
