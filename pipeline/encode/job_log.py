"""The logger `nextmem`: one JSON object a line, with the id of the unit that it is about. Knows no Ray.

Workers write to their stderr, which Ray keeps in a file for each worker (`worker-*.err` in its session's logs); the
driver to a file where it is given one. Nothing goes to the terminal.
"""

from __future__ import annotations

import datetime
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.encode.outcome import Outcome

LOGGER = logging.getLogger("nextmem")


class JsonLines(logging.Formatter):
    """time (UTC), level and event first; then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        fields = {"time": time, "level": record.levelname, "event": record.getMessage()}
        return json.dumps(fields | getattr(record, "fields", {}), ensure_ascii=False, default=str)


def log(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    LOGGER.log(level, event, extra={"fields": fields})


def log_unit(event: str, outcome: Outcome) -> None:
    """What became of a unit: under `event`, or `failed` with the error."""
    if outcome.failure:
        fields = {"unit": outcome.failure.unit_id, "worker": outcome.worker, "error": outcome.failure.reason}
        log("failed", level=logging.ERROR, **fields)
        return
    receipt = outcome.receipt
    log(
        event,
        unit=receipt.unit_id,
        worker=outcome.worker,
        documents=receipt.documents,
        chunks=receipt.chunks,
        tokens=receipt.tokens,
        rejected=receipt.rejected,
        seconds=round(outcome.numbers.get("seconds", 0.0), 3),
    )


def log_to_stderr() -> None:
    """For the length of this process: a worker's."""
    _take(logging.StreamHandler())


@contextmanager
def logging_to(path: str | None) -> Iterator[None]:
    """Append to a file while the block runs; without one nothing is written anywhere. Raises OSError."""
    handler = _take(logging.FileHandler(path, encoding="utf-8") if path else logging.NullHandler())
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


def _take(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # whatever a library hung on the root logger must not reach the terminal
    return handler
