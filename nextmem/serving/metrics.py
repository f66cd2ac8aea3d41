"""What Prometheus reads of a server: requests, their seconds, batches, and how many wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """One app's. Names of banks and verbs are its only labels; no text is among them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        shared: dict[str, Any] = {"registry": self._registry, "namespace": "nextmem_serve"}
        self.requests = Counter("requests", "Requests answered.", ["bank", "verb", "status"], **shared)
        self.seconds = Histogram(
            "seconds", "From a request's arrival to its answer.", ["bank", "verb"], buckets=SECONDS, **shared
        )
        self.batches = Histogram(
            "batch_size", "Requests that went to the codec together.", ["bank"], buckets=SIZES, **shared
        )
        self._waiting = Gauge("waiting", "Requests that wait for the codec.", ["bank"], **shared)

    def watch(self, bank: str, waiting: Callable[[], int]) -> None:
        """Ask for the number that waits whenever somebody reads."""
        self._waiting.labels(bank).set_function(waiting)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
