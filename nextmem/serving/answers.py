"""An error as an HTTP answer: one status, one line. What is no refusal is a fault of ours, and is told to the log."""

from __future__ import annotations

import logging

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from model.refusal import Missing, Refusal, Taken, Unavailable
from nextmem.memory import ReadOnly
from nextmem.told import told
from pipeline.bank.lookup import NotInBank
from pipeline.bank.recall import InexactRecall

STATUS: tuple[tuple[type[Exception], int], ...] = (  # the first that fits
    (NotInBank, 404),
    (ReadOnly, 403),
    (Missing, 410),
    (Taken, 409),
    (Unavailable, 503),
    (InexactRecall, 500),
    (Refusal, 400),
)
LOG = logging.getLogger("nextmem.serve")


def refused(error: Exception) -> Response:
    """{"error": one line}, with the status that fits."""
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    if isinstance(error, Refusal):
        headers = {"Retry-After": "1"} if status == 503 else None
        return JSONResponse({"error": told(error)}, status, headers=headers)
    LOG.error("a request failed: %s", told(error), exc_info=error)
    return JSONResponse({"error": "the server failed at this request; its log says why"}, 500)


def not_understood(error: ValidationError) -> Response:
    """400 for a body that is no JSON or not what the verb takes: each fault with the field that it lies in."""
    faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}".lstrip(": ") for each in error.errors()]
    return JSONResponse({"error": "; ".join(faults)}, 400)
