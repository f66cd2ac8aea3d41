"""`make demo`: ten of the sample articles through the commands, as a person would type them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from nextmem.cli import main as command

SAMPLES = "samples/articles.jsonl"
ARTICLES, CORPUS = 10, "demo-articles.jsonl"  # the first ten: each of another topic
BANK = "demo-bank"
QUERIES = ("folding paper into figures", "how bread rises without added yeast")
STEPS = "8"  # of refining


def main(settings: Sequence[str] = ()) -> None:
    """Run the commands from the top of a checkout. The bank stays in ./demo-bank: a second run encodes nothing.

    `settings`: more words for `nextmem encode`, as --set precision=fp32.
    """
    if not Path(SAMPLES).is_file():
        sys.exit(f"{SAMPLES} is not here: run `make demo` at the top of a checkout")
    began = time.monotonic()
    if Path(BANK).exists():
        say(f"{BANK}/ is there from an earlier run: what it holds is not done again. `rm -r {BANK}` starts over.")
    make(settings)
    read(find())
    took = f"{time.monotonic() - began:.0f} s"
    say(f"That was all, in {took}. The bank stays in {BANK}/; `nextmem --help` lists the commands.")


def make(settings: Sequence[str]) -> None:
    say(
        "Every command of the next two minutes is one that you can type: `make` has put `nextmem` into .venv/bin.\n"
        f"A small corpus first: {ARTICLES} short articles, one JSON object a line with an id and a text."
    )
    shown(f"head -n {ARTICLES} {SAMPLES} > {CORPUS}")
    lines = Path(SAMPLES).read_text(encoding="utf-8").splitlines(keepends=True)
    Path(CORPUS).write_text("".join(lines[:ARTICLES]), encoding="utf-8")
    say(
        "Encode it: articles become chunks of 128 tokens, each chunk 15 latents of SmolLM2-135M, stored in 4 bits.\n"
        "Ray starts, and an encoder on each core loads the backbone: for so few chunks that is half of the time.\n"
        "Small work units give every core some of them."
    )
    run("encode", CORPUS, BANK, "--keep-words", "--columns", "title,topic", "--set", "unit_chunks=12", *settings)
    say("What the bank holds.")
    run("info", BANK)


def find() -> str:
    """The id of the chunk that the last query finds first."""
    say(
        "Search: the chunks nearest to a query, best first: cosine, chunk id, article, and which of its characters.\n"
        "Pooled latents are compared, no embedding model: expect the right article among the first few."
    )
    for query in QUERIES:
        run("search", BANK, query, "-k", "3")
    say(
        "The same question by latents and words together, and why: --keep-words has kept each chunk's words, hashed.\n"
        "Words find what is named, latents what is meant; where a bank has words, this is how to ask it a question."
    )
    return run("search", BANK, QUERIES[-1], "-k", "3", "--by", "both", "--explain").split()[1]


def read(chunk: str) -> None:
    one = ("recall", BANK, "--id", chunk)
    say(
        "Recall the chunk that was found first. The text is exact: its latents are decoded, a patch corrects what\n"
        "they get wrong, and a hash checks the result."
    )
    run(*one)
    say("The same chunk from its 15 latents alone. The codec that ships is young: read the gist, not the words.")
    run(*one, "--no-patch")
    say(
        f"Refine that chunk: {STEPS} optimizer steps on its latents, towards its text.\n"
        "`nextmem encode --refine` does so to every chunk, at many times the cost of encoding it."
    )
    run("refine", BANK, "--where", f"chunk_id = {chunk}", "--refine", STEPS)
    say("Its latents alone once more.")
    run(*one, "--no-patch")
    say("Is every chunk there once, and do eight of them recall exactly?")
    run("verify", BANK, "--sample", "8")


def say(text: str) -> None:
    print("\n" + "\n".join(f"# {line}" for line in text.splitlines()), flush=True)


def shown(line: str) -> None:
    print(f"$ {line}", flush=True)


def run(*arguments: str) -> str:
    """One command, shown and run; what it printed on stdout. Ends the demo where it fails.

    In this process, which has loaded torch already: a process of its own would load it for each of the commands.
    """
    shown(f"nextmem {shlex.join(arguments)}")
    with redirect_stdout(Tee()) as printed:
        code = command(arguments, prog_name="nextmem", standalone_mode=False)
    if code:
        sys.exit(code)
    return printed.getvalue()


class Tee(StringIO):
    """Keeps what is printed, and prints it."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal = sys.stdout

    def write(self, text: str) -> int:
        self.terminal.write(text)
        self.terminal.flush()
        return super().write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
