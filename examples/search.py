"""Encode a corpus and search it.

python examples/search.py samples/articles.jsonl bank "how bread rises"
"""

from __future__ import annotations

import sys

import nextmem


def main(corpus: str, folder: str, query: str, backbone: str | None = None) -> list[str]:
    """Print the three best chunks, why they were found, and their exact texts. Returns their ids."""
    report = nextmem.encode(corpus, folder, backbone=backbone, keep_words=True)
    print(f"{report.summary.documents} documents encoded, {report.summary.held} held already")
    with nextmem.open(folder) as bank:
        hits = bank.search(query, k=3, by="both")
        for hit in hits:
            words = ", ".join(hit.by_words.parts) if hit.by_words else "no word of the query"
            nearness = f"cosine {hit.by_latents.score:+.2f}" if hit.by_latents else "not near"
            print(f"\n{hit.score:.3f}  {hit.doc_id} [{hit.char_start}:{hit.char_end}], {nearness}, {words}\n{hit.text}")
    return [hit.chunk_id for hit in hits]


if __name__ == "__main__":
    main(*sys.argv[1:4])
