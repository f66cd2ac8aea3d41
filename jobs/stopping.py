"""What a scheduler or a terminal sends to end a command: as Ctrl-C, and the exit code says which signal it was.

A scheduler sends SIGTERM before it takes the machine away, `timeout` sends it to the command and then to its whole
group, a terminal that closes sends SIGHUP. Ray puts handlers of its own in the place of ours, so those before it are
set again once it runs. Only the command line listens: a caller from Python keeps handlers of their own.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Stopped(KeyboardInterrupt):
    """The process was told to end, by another signal than Ctrl-C's."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class Heed:
    """Raises Stopped in the main thread on the first of the signals; later ones change nothing, for cleaning up takes
    its time. One that is ignored, as under nohup, stays ignored."""

    def __init__(self) -> None:
        self._stopped = False
        self._before: dict[int, object] = {}

    def begin(self) -> None:
        """From now on. Again, where a library has set its own handlers."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            found = signal.getsignal(number)
            if found != signal.SIG_IGN:
                signal.signal(number, self._stop)
                self._before.setdefault(number, found or signal.SIG_DFL)  # None: one that C has set

    def end(self) -> None:
        """As it was."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _leave_the_terminal()
        if not self._stopped:
            self._stopped = True
            raise Stopped(number)


@contextmanager
def keeping_handlers() -> Iterator[None]:
    """Around a library that sets handlers of its own, as Ray does for SIGTERM: afterwards those before it stand again,
    be they ours or a caller's."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if ours else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: one that C has set


def _leave_the_terminal() -> None:
    """A terminal that has gone can't be written to; what is still to be said would end the command with an error."""
    for number in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
