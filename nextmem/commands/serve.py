"""`nextmem serve`: banks over HTTP, in one process or in replicas on a Ray cluster."""

from __future__ import annotations

import click

from nextmem.commands.options import say


@click.command()
@click.argument("banks", nargs=-1, required=True, metavar="BANK...")
@click.option("--read-only", is_flag=True, help="Search and recall alone.")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0: whoever reaches this machine.")
@click.option("--port", default=8400, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
@click.option("--token", help="What requests must bring. Else NEXTMEM_TOKEN; else one is made for a host of others.")
@click.option("--by", type=click.Choice(["latents", "words", "both"]), default="latents", show_default=True)
@click.option("--waiting", default=256, show_default=True, type=click.IntRange(min=1), help="Requests that may wait.")
@click.option("--batch", default=32, show_default=True, type=click.IntRange(min=1), help="Requests at once, at most.")
@click.option("--max-body", default=4_000_000, show_default=True, type=click.IntRange(min=1000), help="Bytes.")
@click.option("--replicas", type=click.IntRange(min=1), help="So many, on Ray Serve (RAY_ADDRESS).")
@click.option("--gpus", is_flag=True, help="With --replicas: one GPU each.")
def serve(banks, read_only, host, port, token, by, waiting, batch, max_body, replicas, gpus):
    """Search, recall, remember and forget over HTTP, with the texts and latents of BANK...

    GET /openapi.json describes it. A request brings the header `Authorization: Bearer TOKEN`, if there is a token.
    """
    from nextmem.extra import need

    need("serve", "starlette", "uvicorn", "prometheus_client")
    from nextmem.serving.app import Limits
    from nextmem.serving.token import token_for

    asked, made = token_for(host, token)
    limits = Limits(body=max_body, waiting=waiting, batch=batch)
    if made:
        say(f"the token: {asked}")
    if replicas:
        from nextmem.serving.replicas import run_replicas

        run_replicas(banks, replicas, gpus=gpus, host=host, port=port, token=asked, limits=limits, by=by,
                     read_only=read_only, say=say)  # fmt: skip
        return
    from nextmem.memory import Memory
    from nextmem.serving.app import app, named
    from nextmem.serving.run import run

    memories = named([Memory(bank, by=by, read_only=read_only) for bank in banks])
    served = app(memories, token=asked, limits=limits)
    names = ", ".join(memories)
    run(served, host, port, on_listening=lambda at: say(f"serving {names} on http://{host}:{at} (Ctrl-C ends it)"))
