"""`make demo`: the sample corpus through every command, as a person would type them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

SAMPLES = "samples/articles.jsonl"
BANK = "demo-bank"
QUERIES = ("a space probe that left the solar system", "how bread rises", "the rules of a ball game for two teams")


def main() -> None:
    """Run the commands from the top of a checkout; the bank stays in ./demo-bank, so a second run encodes nothing."""
    if not Path(SAMPLES).is_file():
        sys.exit(f"{SAMPLES} is not here: run `make demo` at the top of a checkout")
    say("Each article becomes chunks of 128 tokens, each chunk 15 latents of SmolLM2-135M, stored in 4 bits.")
    run("encode", SAMPLES, BANK, "--columns", "title,topic")
    say("What the bank holds.")
    run("info", BANK)
    say("The rows nearest to a query, by the cosine of pooled latents. No embedding model: expect rough matches.")
    for query in QUERIES:
        run("search", BANK, query, "-k", "3")
    hit = json.loads(output("search", BANK, QUERIES[0], "-k", "1", "--json").splitlines()[0])
    say("One chunk, recalled. Exact: its hash is checked, and a patch forces what the latents alone would get wrong.")
    run("recall", BANK, "--id", hit["chunk_id"])
    say("The same chunk from its 15 latents alone, and how much of it the patch had to force.")
    run("recall", BANK, "--id", hit["chunk_id"], "--no-patch")
    say("Is every chunk there once, and does it recall exactly?")
    run("verify", BANK, "--sample", "40")


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def run(*arguments: str) -> None:
    """One command, shown and run. Ends the demo where it fails."""
    print(f"$ nextmem {shlex.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "nextmem.cli", *arguments]).returncode
    if code:
        sys.exit(code)


def output(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "nextmem.cli", *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
