"""How far a pass over rows is, told to whoever asked."""

from __future__ import annotations

from collections.abc import Callable

Told = Callable[[int, int | None], object]  # rows done, of how many; None where nobody knows


class Count:
    """Called with so many rows more; tells how many are done by then."""

    def __init__(self, tell: Told, of: int | None = None):
        self.done, self.of, self._tell = 0, of, tell

    def __call__(self, rows: int) -> None:
        self.done += rows
        self._tell(self.done, self.of)
