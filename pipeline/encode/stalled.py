"""No job waits for ever: after a time without any progress it ends, and says what it waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from model.refusal import Unavailable

NAMED = 3  # units named in the error


class StalledError(Unavailable):
    """Nothing has moved for too long. What was finished is committed."""


class Patience:
    """Ends a job in which nothing moves. `waiting` names, when asked, the units that were begun and not finished."""

    def __init__(
        self, minutes: float, waiting: Callable[[], Sequence[str]], *, clock: Callable[[], float] = time.monotonic
    ):
        self.minutes, self._waiting, self._clock = minutes, waiting, clock
        self._seen: tuple = ()
        self._since = clock()

    def look(self, *progress: int) -> None:
        """Whatever counts as progress, as often as you like. Raises StalledError once it has stood still too long."""
        if progress != self._seen:
            self._seen, self._since = progress, self._clock()
        elif self._clock() - self._since > 60 * self.minutes:
            raise StalledError(self._line())

    def _line(self) -> str:
        units = list(self._waiting())
        if units:
            named = ", ".join(units[:NAMED]) + (f" and {len(units) - NAMED} more" if len(units) > NAMED else "")
            found = f"it waits for unit {named}, which an encoder has begun and not finished"
        else:
            found = "no encoder has begun a unit: it waits for workers, or for what they load"
        return (
            f"nothing was encoded or committed for {self.minutes:g} minutes; {found}. `ray status` shows what the "
            "cluster has; what was finished is committed, and the same command goes on. "
            "--set stall_minutes=N waits longer"
        )
