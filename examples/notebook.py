"""A bank that stays open between questions, as in a notebook: the codec is loaded once.

python examples/notebook.py bank "first question" "second question"
"""

from __future__ import annotations

import sys
import time

import nextmem


def main(folder: str, *questions: str) -> list[str]:
    """Answer each question with the best chunk's text. Returns the texts."""
    bank = nextmem.open(folder)
    found = []
    for question in questions:
        start = time.perf_counter()
        hits = bank.search(question, k=1)
        found.append(hits[0].text if hits else "")
        print(f"{question}\n  {time.perf_counter() - start:.1f} s: {found[-1][:200]!r}\n")
    bank.close()
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
