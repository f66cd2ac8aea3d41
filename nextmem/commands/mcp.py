"""`nextmem mcp`: a bank as a server of the Model Context Protocol."""

from __future__ import annotations

import click

from nextmem.commands.options import say


@click.command()
@click.argument("bank")
@click.option("--read-only", is_flag=True, help="Search and recall alone.")
@click.option("--http", is_flag=True, help="Over streamable HTTP, not stdio.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8401, show_default=True, type=click.IntRange(0, 65535))
@click.option("--token", help="What HTTP requests must bring. Else NEXTMEM_TOKEN; else made for a host of others.")
@click.option("--by", type=click.Choice(["latents", "words", "both"]), default="latents", show_default=True)
@click.option("--backbone", help="The codec's backbone weights, if they lie elsewhere.")
def mcp(bank, read_only, http, host, port, token, by, backbone):
    """Let agents search, recall, remember, forget and edit BANK through MCP.

    Without --http it speaks on stdin and stdout, for a client that starts it.
    """
    from nextmem.extra import need

    need("mcp", "mcp.server.mcpserver")
    import nextmem
    from nextmem.bridges.mcp import server

    with nextmem.Memory(nextmem.open(bank, backbone=backbone), by=by, read_only=read_only) as memory:
        made = server(memory)
        if not http:
            made.run("stdio")
            return
        _serve(made, host, port, token)


def _serve(made, host, port, token):
    from nextmem.serving.run import run
    from nextmem.serving.token import Guard, token_for

    asked, is_new = token_for(host, token)
    if is_new:
        say(f"the token: {asked}")
    app = made.streamable_http_app(host=host)
    if asked is not None:
        app.add_middleware(Guard, token=asked)
    run(app, host, port, on_listening=lambda at: say(f"serving MCP on http://{host}:{at}/mcp (Ctrl-C ends it)"))
