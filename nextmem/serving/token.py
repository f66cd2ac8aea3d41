"""Who may ask: a bearer token, compared in a time that says nothing of it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "NEXTMEM_TOKEN"
OPEN = ("/health",)  # what a load balancer asks


def token_for(host: str, given: str | None) -> tuple[str | None, bool]:
    """(the token to ask for, whether it was made here). None where anybody on this machine may ask.

    Given, or in NEXTMEM_TOKEN; made where the host is not this machine alone.
    """
    chosen = given or os.environ.get(VARIABLE) or None
    if chosen is not None or is_loopback(host):
        return chosen, False
    return secrets.token_urlsafe(32), True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host. A name other than localhost is taken for one that others reach."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """ASGI middleware: what comes without the token is answered with 401, and reaches nothing."""

    def __init__(self, app: ASGIApp, token: str):
        self.app, self._digest = app, _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._known(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        said = "a token is needed: send the header `Authorization: Bearer TOKEN`"
        refusal = JSONResponse({"error": said}, 401, headers={"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        """Digests are of one length and differ in half of their bits: comparing them tells neither length nor start."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        found = _digest(given.strip().encode("latin-1"))  # as starlette decodes headers
        return hmac.compare_digest(found, self._digest) and scheme.lower() == "bearer"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
