"""What a person or a machine reads: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys


def emit(record: dict) -> None:
    """One JSON object a line on stdout."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def table(rows: list[tuple[str, str]]) -> None:
    """Name and value in two columns on stdout."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def chunks(count: int) -> str:
    return f"{count:,} chunk{'s' * (count != 1)}"


def interval() -> float:
    """Seconds between two looks at a bar: in a job's log each is a line of its own."""
    return 0.5 if sys.stderr.isatty() else 15.0


def duration(seconds: float | None) -> str:
    """In the two largest units that a person would say."""
    if seconds is None:
        return "-"
    seconds = round(seconds)
    for size, name, smaller, within in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {name} {seconds % size // smaller} {within}"
    return f"{seconds} s"


def size(count: float) -> str:
    """Bytes, in the unit that leaves at most three digits before the point."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
