"""A memory as an MCP server: tools that any agent with a client of the Model Context Protocol can call.

nextmem mcp bank                    over stdio, for a client that starts it
nextmem mcp bank --http             over streamable HTTP, at http://127.0.0.1:8401/mcp
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from model.refusal import Refusal
from nextmem.memory import Memory
from nextmem.told import told

INSTRUCTIONS = (
    "A memory of texts. search_memory finds pieces of texts by what they are about; recall gives a piece or a whole "
    "document word for word. Remember what may be asked for later; give it an id if it may have to be changed."
)
MOST_K = 50
LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)

Query = Annotated[str, Field(min_length=1, max_length=20_000, description="What to look for, in a few words.")]
Count = Annotated[int, Field(ge=1, le=MOST_K, description="How many pieces, at most.")]
Rows = Annotated[
    str | dict[str, Any] | None, Field(description="Which rows: `topic = food`, or {topic: [food, science]}.")
]
ChunkId = Annotated[str | None, Field(description="The id of one piece, as search_memory gives it.")]
DocId = Annotated[str | None, Field(description="The id of a document.")]
Tool: TypeAlias = Callable[..., Any]


def server(memory: Memory) -> MCPServer:
    """The server of one memory; one that is read-only has no tools that change it. The memory is left open."""
    made = MCPServer("nextmem", instructions=INSTRUCTIONS, version=version("nextmem"))
    tools: list[tuple[ToolAnnotations, Tool]] = [(LOOKS, search_memory), (LOOKS, recall)]
    if not memory.read_only:
        tools += [(ADDS, remember), (CHANGES, forget), (CHANGES, edit)]
    for hints, tool in tools:
        made.tool(name=tool.__name__, annotations=hints)(_telling(memory, tool))
    return made


def search_memory(memory: Memory, query: Query, k: Count = 5, filter: Rows = None) -> list[dict[str, Any]]:
    """Find the pieces of remembered texts that answer a query best, best first, each word for word with its ids."""
    memory.bank.reload()
    hits = memory.search(query, k, filter=filter)
    return [
        {"chunk_id": hit.chunk_id, "doc_id": hit.doc_id, "score": round(hit.score, 4), "text": hit.text} for hit in hits
    ]


def recall(memory: Memory, chunk_id: ChunkId = None, doc_id: DocId = None) -> str:
    """Give back one piece, or one whole document, word for word. Give one of chunk_id and doc_id."""
    if (chunk_id is None) == (doc_id is None):
        raise Refusal("give one of chunk_id and doc_id")
    memory.bank.reload()
    return memory.recall(chunk_id=chunk_id, doc_id=doc_id)


def remember(
    memory: Memory,
    text: Annotated[str, Field(min_length=1, description="What to remember, word for word.")],
    doc_id: Annotated[str | None, Field(description="An id of your choice; without one it gets one.")] = None,
    update: Annotated[bool, Field(description="Replace what is remembered under this id.")] = False,
    columns: Annotated[dict[str, Any] | None, Field(description="Values of the memory's own columns.")] = None,
) -> dict[str, Any]:
    """Remember a text. It is found by the next search."""
    done = memory.remember(text, doc_id=doc_id, update=update, **(columns or {}))
    return {"doc_id": done.doc_ids[0], "new": bool(done.new), "replaced": bool(done.replaced)}


def forget(
    memory: Memory, doc_ids: Annotated[list[str], Field(min_length=1, description="The documents' ids.")]
) -> dict[str, Any]:
    """Forget documents for good."""
    done = memory.forget(doc_ids)
    return {"documents": done.documents, "chunks": done.chunks}


def edit(
    memory: Memory,
    chunk_id: Annotated[str, Field(description="The piece to change, as search_memory gives it.")],
    old: Annotated[str, Field(min_length=1, description="What stands there now, exactly; it must stand there once.")],
    new: Annotated[str, Field(description="What is to stand there.")],
) -> dict[str, Any]:
    """Correct a remembered text. The piece gets a new id, which is returned."""
    done = memory.edit(chunk_id, old, new)
    return {"chunk_ids": list(done.chunk_ids)}


def _telling(memory: Memory, tool: Tool) -> Tool:
    """The tool with its memory bound: a refusal is told to the agent, in one line that says what to do.

    Anything else stays inside: the server's log has it, and the agent reads that the tool failed.
    """

    @functools.wraps(tool)
    def told_call(**arguments: Any) -> Any:
        try:
            return tool(memory, **arguments)
        except Refusal as error:
            raise ToolError(told(error)) from error

    signature = inspect.signature(tool, eval_str=True)
    given = [each for name, each in signature.parameters.items() if name != "memory"]
    told_call.__signature__ = signature.replace(parameters=given)  # type: ignore[attr-defined]
    told_call.__annotations__ = {each.name: each.annotation for each in given} | {"return": signature.return_annotation}
    return told_call
