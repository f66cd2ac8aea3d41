"""The agent's loop on real conversations: full history, text memory, recalled text and latents, side by side.

Each conversation is played by examples/agent.py with a memory of its own. Its figures are appended to OUT as a line, so
a killed run goes on where it was. Held at each question: recalled text gives a text memory's answers letter for letter,
and no memory takes more than a quarter of the full history. Printed for each way: nats a token of the reference answer,
answers that hold it, milliseconds, tokens of context.

    python -m benchmarks.agent_loop retrieval_locomo retrieval_longmemeval --out loop.jsonl
    python -m benchmarks.agent_loop retrieval_hotpotqa --steps 2 --out loop.jsonl
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

from benchmarks.harness import Report, options
from examples.agent import WAYS, Readers, Tally, play_one
from examples.conversations import conversations_of


def played(out: Path) -> dict[str, dict]:
    """What OUT holds, by its key; a torn last line is left out."""
    found = {}
    for line in out.read_text(encoding="utf-8").splitlines() if out.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = row["ways"]
    return found


def play_all(folder: str, arguments, readers: Readers, out: Path) -> list[dict]:
    """Every conversation of a folder, those that OUT holds from there."""
    own = {name: getattr(arguments, name) for name in ("questions", "turns", "budget", "steps", "window", "codec")}
    rows = []
    conversations = conversations_of(folder, arguments.conversations, arguments.questions, arguments.turns)
    for place, conversation in enumerate(conversations):
        key = json.dumps({"data": Path(folder).name, "place": place} | own, sort_keys=True)
        ways = played(out).get(key)
        if ways is None:
            tallies = play_one(conversation, readers, **{name: own[name] for name in ("budget", "steps", "codec")})
            ways = {way: dataclasses.asdict(tally) for way, tally in tallies.items()}
            torn = out.exists() and not out.read_text(encoding="utf-8").endswith("\n")
            with out.open("a", encoding="utf-8") as file:
                file.write("\n" * torn + json.dumps({"key": key, "ways": ways}) + "\n")
        rows.append(ways)
    return rows


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("data", nargs="+", help="folders, as examples/conversations.py reads them")
    parser.add_argument("--out", default="agent_loop.jsonl", help="default: %(default)s")
    parser.add_argument("--conversations", type=int, default=2, help="of each folder; default: %(default)s")
    parser.add_argument("--questions", type=int, default=4, help="of each conversation; default: %(default)s")
    parser.add_argument("--turns", type=int, default=60, help="that are heard, at most; default: %(default)s")
    parser.add_argument("--budget", type=int, default=256, help="tokens of context; default: %(default)s")
    parser.add_argument("--steps", type=int, default=1, help="searches a question; default: %(default)s")
    parser.add_argument("--window", type=int, default=4096, help="tokens of the full history, the last")
    parser.add_argument("--codec", help="a codec's folder; default: the one that ships")
    arguments = parser.parse_args()
    report = Report("agent_loop", arguments.json, steps=arguments.steps, turns=arguments.turns)
    readers = Readers(arguments.window)
    for folder in arguments.data:
        rows, name = play_all(folder, arguments, readers, Path(arguments.out)), Path(folder).name
        for way in WAYS:
            whole = Tally(**{key: [v for row in rows for v in row[way][key]] for key in Tally.__slots__})
            report.line(f"{name}, {way}: nats a token", statistics.mean(whole.nats))
            report.line(f"{name}, {way}: answers that hold it", sum(whole.right))
            report.line(f"{name}, {way}: of", len(whole.right))
            report.line(f"{name}, {way}: median", statistics.median(whole.milliseconds), "ms")
            report.line(f"{name}, {way}: tokens of context", statistics.mean(whole.tokens))
    report.close()


if __name__ == "__main__":
    main()
