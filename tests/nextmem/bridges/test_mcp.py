"""The official MCP client drives the server: in this process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from works import ARTICLES

import nextmem
from nextmem.bridges.mcp import server

READS, WRITES = {"search_memory", "recall"}, {"remember", "forget", "edit"}
COMMAND = [sys.executable, "-m", "nextmem.cli", "mcp"]


def in_process(bank, talk, **options):
    """What a client of the bank's server finds."""

    async def run():
        with nextmem.Memory(bank, **options) as memory:
            async with Client(server(memory)) as client:
                return await talk(client)

    return asyncio.run(run())


def said(result) -> str:
    return "".join(part.text for part in result.content)


async def search_and_recall(client):
    """A short visit: (tools, hits of a search, the text of the best hit's document)."""
    tools = (await client.list_tools()).tools
    found = (await client.call_tool("search_memory", {"query": ARTICLES["fox"][:32], "k": 2})).structured_content
    hits = found["result"]
    text = said(await client.call_tool("recall", {"doc_id": hits[0]["doc_id"]}))
    return {tool.name for tool in tools}, hits, text


def require_fox(visit, tools):
    names, hits, text = visit
    assert names == tools
    assert hits[0]["text"] == ARTICLES["fox"][:32] and len(hits) == 2
    assert text == ARTICLES["fox"]


def test_tools_say_what_they_take_and_whether_they_change_anything(articles):
    async def talk(client):
        return {tool.name: tool for tool in (await client.list_tools()).tools}

    tools = in_process(articles, talk)
    assert set(tools) == READS | WRITES
    assert {name for name, tool in tools.items() if tool.annotations.read_only_hint} == READS
    for tool in tools.values():
        assert tool.description and "memory" not in tool.input_schema["properties"]
        assert all(each.get("description") for each in tool.input_schema["properties"].values())
    assert set(tools["search_memory"].input_schema["required"]) == {"query"}


def test_a_read_only_memory_offers_no_tool_that_changes_it(articles):
    require_fox(in_process(articles, search_and_recall, read_only=True), READS)


@pytest.mark.parametrize(
    ("tool", "arguments", "why"),
    [
        ("recall", {"doc_id": "nobody"}, "nobody"),
        ("recall", {}, "give one of chunk_id and doc_id"),
        ("search_memory", {"query": ""}, "at least 1 character"),
        ("search_memory", {"query": "x", "k": 1000}, "less than or equal to 50"),
        ("search_memory", {"query": "x", "filter": {"topik": "a"}}, "no column 'topik' to filter by"),
    ],
)
def test_what_can_not_be_done_is_told_to_the_agent(articles, tool, arguments, why):
    result = in_process(articles, lambda client: client.call_tool(tool, arguments))
    assert result.is_error and why in said(result) and "Traceback" not in said(result)


def test_a_client_starts_the_command_and_speaks_over_stdio(articles):
    async def run():
        parameters = StdioServerParameters(
            command=COMMAND[0], args=[*COMMAND[1:], articles, "--read-only"], env=dict(os.environ)
        )
        async with Client(parameters) as client:
            return await search_and_recall(client)

    require_fox(asyncio.run(run()), READS)


@contextmanager
def over_http(bank, *options):
    """The command with --http on a free port; its URL."""
    process = subprocess.Popen([*COMMAND, bank, "--http", "--port", "0", *options], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+/mcp", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode in (0, 143)


def test_a_client_speaks_over_http_and_the_token_is_asked_for(articles):
    import httpx2

    async def run(url, **headers):
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await search_and_recall(client)

    with over_http(articles, "--read-only", "--token", "s3cret") as url:
        require_fox(asyncio.run(run(url, Authorization="Bearer s3cret")), READS)
        assert httpx2.post(url, json={}, headers={"Authorization": "Bearer other"}).status_code == 401


@pytest.fixture
def own(articles, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(articles, tmp_path / "bank")


def test_what_is_remembered_is_found_corrected_and_forgotten(own):
    async def talk(client):
        async def call(tool, **arguments):
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, said(result)
            return result

        kept = await call("remember", text="The ferry leaves pier 3.", doc_id="ferry")
        (hit,) = (await call("search_memory", query="The ferry leaves pier 3.", k=1)).structured_content["result"]
        await call("edit", chunk_id=hit["chunk_id"], old="pier 3", new="pier 9")
        edited = said(await call("recall", doc_id="ferry"))
        gone = await call("forget", doc_ids=["ferry"])
        missing = await client.call_tool("recall", {"doc_id": "ferry"})
        return json.loads(said(kept)), hit, edited, json.loads(said(gone)), missing

    kept, hit, edited, gone, missing = in_process(own, talk)
    assert kept == {"doc_id": "ferry", "new": True, "replaced": False}
    assert (hit["doc_id"], hit["text"]) == ("ferry", "The ferry leaves pier 3.")
    assert edited == "The ferry leaves pier 9."
    assert gone == {"documents": 1, "chunks": 1}
    assert missing.is_error and "ferry" in said(missing)
