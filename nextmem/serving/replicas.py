"""The same app in several processes on a Ray cluster: Ray Serve starts replicas, spreads requests, replaces the dead.

Each replica holds its own codec, and its own batches. A bank's commits are compare-and-swap, so replicas may write to
one bank; each stands on the newest version before it answers a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nextmem.extra import need
from nextmem.serving.app import Limits

if TYPE_CHECKING:
    from starlette.applications import Starlette

NAME = "nextmem"


def make_app(banks: Sequence[str], *, by: str, read_only: bool, token: str | None, limits: Limits) -> Starlette:
    """A replica's app, with its own banks opened."""
    from nextmem.memory import Memory
    from nextmem.serving.app import app, named

    return app(named([Memory(bank, by=by, read_only=read_only) for bank in banks]), token=token, limits=limits)


def deployment(
    banks: Sequence[str], replicas: int, *, gpus: bool, limits: Limits, token: str | None, by: str, read_only: bool
) -> Any:
    """A Ray Serve application of so many replicas, each on a GPU of its own or on one CPU."""
    from ray import serve

    def build() -> Starlette:
        return make_app(banks, by=by, read_only=read_only, token=token, limits=limits)

    deployed = serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        num_replicas=replicas,
        max_ongoing_requests=limits.waiting,
        ray_actor_options={"num_gpus": 1} if gpus else {"num_cpus": 1},
        graceful_shutdown_timeout_s=30,
        health_check_period_s=5,
    )
    return deployed.bind()


@contextmanager
def served(made: Any, *, host: str, port: int, say: Callable[[str], object] = lambda line: None) -> Iterator[None]:
    """The deployment, for as long as the block runs, on the Ray that is joined or on one started for it."""
    from ray import serve

    from jobs.cluster.session import Session

    with Session(say=say) as session:
        session.start()
        serve.start(http_options={"host": host, "port": port})
        try:
            serve.run(made, name=NAME)
            yield
        finally:
            serve.shutdown()


def run_replicas(
    banks: Sequence[str],
    replicas: int,
    *,
    gpus: bool,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    by: str,
    read_only: bool,
    say: Callable[[str], object],
) -> None:
    """Serve until the process is told to stop; then the replicas answer what they have, and end."""
    from jobs.cluster.session import set_variables

    set_variables()  # before Ray is imported
    need("serve", "ray.serve")
    made = deployment(banks, replicas, gpus=gpus, limits=limits, token=token, by=by, read_only=read_only)
    with served(made, host=host, port=port, say=say):
        say(f"serving with {replicas} replicas on http://{host}:{port} (Ctrl-C ends it)")
        threading.Event().wait()
