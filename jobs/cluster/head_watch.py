"""Says so when the cluster's head no longer answers: Ray ends the driver a minute later, without a word of ours."""

from __future__ import annotations

import socket
import sys
import threading

PROBE_SECONDS = 5.0  # and as long for an answer
SILENT_PROBES = 3  # in a row, before a person is told


class HeadWatch:
    """A thread that knocks at the head's port for as long as the `with` block lasts."""

    def __init__(self, address: str, *, every: float = PROBE_SECONDS):
        """`address`: host:port of the head's GCS."""
        host, _, port = address.rpartition(":")
        self.address, self._target, self._every = address, (host.strip("[]"), int(port)), every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> HeadWatch:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        silent = 0
        while not self._ended.wait(self._every):
            answers = self._answers()
            if answers and silent >= SILENT_PROBES:
                _say(f"the cluster's head at {self.address} answers again")
            silent = 0 if answers else silent + 1
            if silent == SILENT_PROBES:
                _say(
                    f"the cluster's head at {self.address} has not answered for {silent * self._every:.0f} s; Ray ends "
                    "this job if it stays away for a minute. What was committed stays, and the same command goes on "
                    "with it, on a new cluster too"
                )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._target, timeout=self._every):
                return True
        except OSError:
            return False


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)  # a progress bar may stand on the line
