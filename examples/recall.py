"""Recall a document exactly, and see how much of it its latents carry alone.

python examples/recall.py bank DOC
"""

from __future__ import annotations

import sys

import nextmem


def main(folder: str, doc_id: str) -> str:
    """Print the document's text and what its latents alone give of it. Returns the exact text."""
    with nextmem.open(folder) as bank:
        text = bank.recall(doc_id=doc_id)
        alone = [row.text for row in bank.recalled(doc_id=doc_id, patched=False)]
        carried = [row.carried for row in bank.recalled(doc_id=doc_id) if row.carried is not None]
    print(f"exact\n{text}\n\nfrom latents alone\n{''.join(alone)}")
    if carried:
        print(f"\nlatents carry {sum(carried) / len(carried):.0%} of the positions, the patches the rest")
    return text


if __name__ == "__main__":
    main(*sys.argv[1:3])
