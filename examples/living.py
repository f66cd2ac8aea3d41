"""A bank that is told things, one after another, and corrected: no job, no Ray, and each is found at once.

    python examples/living.py bank

It adds to the bank that it is given.
"""

from __future__ import annotations

import sys

import nextmem

TOLD = {
    "naxos-ferry": "The ferry to Naxos leaves at 5:40 from pier 3. Tickets are sold on board.",
    "spare-key": "The spare key lies under the third pot on the terrace, wrapped in wax paper.",
}


def main(folder: str) -> list[str]:
    """Remember, ask, correct, and ask again. Returns the first text before and after."""
    with nextmem.open(folder) as bank:
        for name, text in TOLD.items():
            done = bank.remember(text, doc_id=name)
            print(f"{name}: {done.new} new, {done.held} held already, version {done.version}")
        told = [bank.recall(doc_id="naxos-ferry")]
        row = next(row for row in bank.recalled(doc_id="naxos-ferry") if "5:40" in row.text)
        bank.edit(row.chunk_id, "5:40", "6:10")  # encoded anew; "patch" would leave the latents for a later tend
        told.append(bank.recall(doc_id="naxos-ferry"))
        (best,) = bank.search("when does the ferry leave", k=1)
        print(f"{told[1]}\nfound first: {best.doc_id}")
        bank.update("naxos-ferry", told[0])  # as it was
    return told


if __name__ == "__main__":
    main(sys.argv[1])
