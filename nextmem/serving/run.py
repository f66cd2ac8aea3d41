"""One process that serves: uvicorn around the app, with a graceful stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from model.refusal import Taken

if TYPE_CHECKING:
    from starlette.types import ASGIApp

GRACE = 30  # seconds that requests have to end after a signal to stop
BACKLOG = 128  # connections that nobody has taken yet
CONNECTIONS = 1024  # at once; each may hold a body while it is read


def run(app: ASGIApp, host: str, port: int, *, on_listening: Callable[[int], object] = lambda port: None) -> None:
    """Serve until SIGTERM or Ctrl-C. Then no new request is taken, and those at work are answered.

    Port 0 takes any that is free; `on_listening` is told which, once a connection would wait for its answer. Raises
    Taken where something else has the port.
    """
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host.strip("[]"), port))
            listening.listen(BACKLOG)
        except OSError as error:
            raise Taken(f"{host}:{port} can't be listened on: {error.strerror}. Give another --port.") from error
        on_listening(listening.getsockname()[1])
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=GRACE, lifespan="on", limit_concurrency=CONNECTIONS
        )
        uvicorn.Server(config).run(sockets=[listening])
