"""Encode a corpus and search it.

python examples/search.py samples/articles.jsonl bank "how bread rises"
"""

from __future__ import annotations

import sys

import nextmem


def main(corpus: str, folder: str, query: str, backbone: str | None = None) -> list[str]:
    """Print the three nearest chunks with their exact texts. Returns their ids."""
    report = nextmem.encode(corpus, folder, backbone=backbone)
    print(f"{report.summary.documents} documents encoded, {report.summary.held} held already")
    with nextmem.open(folder) as bank:
        hits = bank.search(query, k=3)
        for hit in hits:
            print(f"\n{hit.score:.3f}  {hit.doc_id} [{hit.char_start}:{hit.char_end}]\n{hit.text}")
    return [hit.chunk_id for hit in hits]


if __name__ == "__main__":
    main(*sys.argv[1:4])
