"""The server's description for people and generators of clients: OpenAPI 3.1, made of the models that check bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from nextmem.serving.asks import Ask, Latents

REF = "#/components/schemas/{model}"
STATUSES = {
    "400": "the body is not what the verb takes",
    "401": "the token is missing or wrong",
    "403": "the bank is read-only",
    "404": "no such bank, chunk or document",
    "410": "the bank has been removed",
    "413": "the body is too large",
    "503": "too many requests wait, or another job holds the bank; Retry-After says when to ask again",
}


def openapi(verbs: Sequence[type[Ask]], banks: Sequence[str], version: str) -> dict[str, Any]:
    """The whole description, of the verbs that this server has."""
    _, schemas = models_json_schema([(verb, "validation") for verb in verbs], ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "NextMem", "version": version, "description": "Memory banks over HTTP."},
        "paths": {
            "/health": {"get": _plain("Whether the server takes requests.")},
            "/metrics": {"get": _plain("Prometheus metrics.", "text/plain")},
            "/banks": {"get": _plain("The banks, their versions and sizes.")},
            **{f"/banks/{{bank}}/{verb.__name__.lower()}": {"post": _asked(verb, banks)} for verb in verbs},
        },
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _plain(summary: str, kind: str = "application/json") -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "done", "content": {kind: {}}}}}


def _asked(verb: type[Ask], banks: Sequence[str]) -> dict[str, Any]:
    kind = "application/octet-stream" if verb is Latents else "application/json"
    error = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    body = {"schema": {"$ref": REF.format(model=verb.__name__)}}
    return {
        "operationId": verb.__name__.lower(),
        "summary": (verb.__doc__ or "").strip(),
        "parameters": [
            {"name": "bank", "in": "path", "required": True, "schema": {"type": "string", "enum": list(banks)}}
        ],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {
            "200": {"description": "done", "content": {kind: {}}},
            **{status: {"description": said, "content": error} for status, said in STATUSES.items()},
        },
    }
