"""A loopback HTTP proxy in front of an S3 server: it counts requests, and fails those it is told to.

503     answers SlowDown and passes nothing on
reset   resets the connection, the request unread by the server
lost    passes the request on, then resets the connection: it was done, and its sender cannot know
cut     passes on half of the body, then closes both connections
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class Request:
    """One request, as its head says."""

    number: int  # from 1
    method: str
    path: str  # /bucket/key?query
    headers: dict[str, str]  # names in lower case

    @property
    def is_upload(self) -> bool:
        return self.method == "PUT" and ".parquet" in self.path


class FlakyProxy:
    """Listens from the start; passes requests on once `upstream` is set. `fault(request)` names a fault or None."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.upstream: int | None = None  # a port
        self.requests: list[Request] = []
        self._faults: list[Callable[[Request], str | None]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def failing(self, fault: Callable[[Request], str | None]):
        """Within the block, `fault` is asked about every request. Yields the list of those it failed."""
        failed: list[Request] = []

        def asked(request: Request) -> str | None:
            found = fault(request)
            failed.extend([request] if found else [])
            return found

        self._faults.append(asked)
        try:
            yield failed
        finally:
            self._faults.remove(asked)

    @contextmanager
    def counting(self):
        """Yields a list of the requests that come within the block."""
        counted: list[Request] = []
        start = len(self.requests)
        try:
            yield counted
        finally:
            counted.extend(self.requests[start:])

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self.upstream))
        with client, server, client.makefile("rb") as asked, server.makefile("rb") as answered:
            try:
                while self._pass_on(client, server, asked, answered):
                    pass
            except (OSError, ValueError):
                return  # either side went away

    def _pass_on(self, client, server, asked, answered) -> bool:
        """One request and its answer. False when the connection is over."""
        head, headers = _head(asked)
        if not head:
            return False
        request = self._noted(head, headers)
        fault = next(filter(None, (ask(request) for ask in list(self._faults))), None)
        if headers.get("expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
        if fault == "reset":
            return _reset(client)
        body = _body(asked, headers)
        if fault == "503":
            client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n")
            answer = b"" if request.method == "HEAD" else SLOW_DOWN
            client.sendall(f"Content-Length: {len(SLOW_DOWN)}\r\n\r\n".encode() + answer)
            return True
        server.sendall(head + (body[: len(body) // 2] if fault == "cut" else body))
        if fault == "cut":
            return False
        answer = _answer(answered, request.method)
        if fault == "lost":
            return _reset(client)
        client.sendall(answer)
        return bool(answer)

    def _noted(self, head: bytes, headers: dict[str, str]) -> Request:
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        with self._lock:
            request = Request(len(self.requests) + 1, method, path, headers)
            self.requests.append(request)
        return request


def _head(stream) -> tuple[bytes, dict[str, str]]:
    lines = []
    while (line := stream.readline()).strip():
        lines.append(line)
    pairs = (line.decode("latin-1").partition(":") for line in lines[1:])
    return b"".join([*lines, b"\r\n"]) if lines else b"", {k.strip().lower(): v.strip() for k, _, v in pairs}


def _body(stream, headers: dict[str, str]) -> bytes:
    """As it came, chunk headers and all."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        return stream.read(int(headers.get("content-length", 0)))
    body = b""
    while True:
        line = stream.readline()
        size = int(line.split(b";")[0], 16)
        body += line + (stream.read(size + 2) if size else b"")
        if not size:
            while (line := stream.readline()).strip():
                body += line
            return body + b"\r\n"


def _answer(stream, method: str) -> bytes:
    head, headers = _head(stream)
    if not head:
        return b""
    status = int(head.split(b" ")[1])
    if status == 100:
        return _answer(stream, method)
    empty = method == "HEAD" or status in (204, 304)
    return head + (b"" if empty else _body(stream, headers))


def _reset(client: socket.socket) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.shutdown(socket.SHUT_RD)
    return False
