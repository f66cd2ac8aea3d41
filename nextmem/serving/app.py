"""The ASGI app: routes, and what happens to a request between the socket and its bank's desk."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from model.refusal import Refusal, Taken
from nextmem.memory import Memory
from nextmem.serving.answers import not_understood, refused
from nextmem.serving.asks import READS, WRITES, Ask
from nextmem.serving.batcher import Batcher
from nextmem.serving.body_limit import BodyLimit, TooLarge
from nextmem.serving.desk import Desk
from nextmem.serving.metrics import Metrics
from nextmem.serving.openapi import openapi
from nextmem.serving.token import Guard


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on."""

    body: int = 4_000_000  # bytes of a request
    waiting: int = 256  # requests that may wait for a bank's codec
    batch: int = 32  # requests that go to it together


def app(memories: Mapping[str, Memory], *, token: str | None = None, limits: Limits | None = None) -> Starlette:
    """The app for these memories, by the names that their routes have. It closes them when it ends.

    `token`: what requests must bring; None lets in whoever reaches the port.
    """
    return Server(memories, limits or Limits()).app(token)


def named(memories: Sequence[Memory]) -> dict[str, Memory]:
    """Each by the last part of its bank's path. Raises Taken for two of one name."""
    found: dict[str, Memory] = {}
    for memory in memories:
        name = memory.bank.path.rstrip("/").rsplit("/", 1)[-1]
        if name in found:
            raise Taken(f"{found[name].bank.path} and {memory.bank.path} are both named {name}: rename one of them")
        found[name] = memory
    return found


class Server:
    """The state behind an app: for each bank its desk, and the batcher in front of it."""

    def __init__(self, memories: Mapping[str, Memory], limits: Limits):
        self.memories, self.limits, self.metrics = dict(memories), limits, Metrics()
        self.verbs = (*READS, *(WRITES if any(not m.read_only for m in memories.values()) else ()))
        self.batchers: dict[str, Batcher[Ask, Any]] = {}

    def app(self, token: str | None) -> Starlette:
        guard = [] if token is None else [Middleware(Guard, token=token)]
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.measured),
            Route("/openapi.json", self.described),
            Route("/banks", self.listed),
            *(
                Route(f"/banks/{{bank}}/{verb.__name__.lower()}", self._endpoint(verb), methods=["POST"])
                for verb in self.verbs
            ),
        ]
        return Starlette(
            routes=routes,
            middleware=[*guard, Middleware(BodyLimit, most=self.limits.body)],
            lifespan=self._lifespan,
            exception_handlers={404: _no_route, 405: _no_route},
        )

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": sum(map(len, self.batchers.values()))})

    async def measured(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def described(self, _: Request) -> Response:
        return JSONResponse(openapi(self.verbs, list(self.memories), version("nextmem")))

    async def listed(self, _: Request) -> Response:
        rows = [
            {"name": name, "version": memory.bank.version, "chunks": len(memory), "read_only": memory.read_only}
            for name, memory in self.memories.items()
        ]
        return JSONResponse({"banks": rows})

    def _endpoint(self, verb: type[Ask]):
        async def endpoint(request: Request) -> Response:
            start, bank = time.perf_counter(), request.path_params["bank"]
            answer = await self._answer(verb, bank, request)
            if bank in self.memories:  # other names are the asker's, and would fill the registry
                name = verb.__name__.lower()
                self.metrics.requests.labels(bank, name, answer.status_code).inc()
                self.metrics.seconds.labels(bank, name).observe(time.perf_counter() - start)
            return answer

        return endpoint

    async def _answer(self, verb: type[Ask], bank: str, request: Request) -> Response:
        if bank not in self.memories:
            return JSONResponse({"error": f"no bank {bank!r} here; there is {', '.join(self.memories)}"}, 404)
        try:
            self.batchers[bank].require_room()  # before the body is read
            ask = verb.model_validate_json(_as_text(await request.body()))
            given = await self.batchers[bank].ask(ask)
        except ValidationError as error:
            return not_understood(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; the metrics do
        except TooLarge:
            raise
        except Exception as error:
            return refused(error)
        if isinstance(given, bytes):
            return Response(given, media_type="application/octet-stream")
        return Response(json.dumps(given, default=str), media_type="application/json")

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Batchers live in the loop that serves. At the end what waits is answered, then the banks are closed."""
        for name, memory in self.memories.items():
            self.batchers[name] = Batcher(
                Desk(memory).answer,
                most=self.limits.batch,
                waiting=self.limits.waiting,
                on_batch=self.metrics.batches.labels(name).observe,
            )
            self.metrics.watch(name, self.batchers[name].__len__)
        yield
        for name, memory in self.memories.items():
            await self.batchers[name].close()
            memory.close()


def _as_text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}") from None


async def _no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = f"no {request.method} {request.url.path} here: GET /openapi.json lists what there is"
    return JSONResponse({"error": said}, status)
