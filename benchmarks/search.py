"""Which share of a bank's documents a short query finds: embedded as it is, and repeated until it fills a chunk.

    nextmem encode samples/articles.jsonl articles-bank --columns title
    python -m benchmarks.search --bank articles-bank --column title

The queries are the values of a column that was carried along, one a document. Found: a row of that document is the
nearest of all, or among the nearest five.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Report, options
from model.codec import Codec
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.search import embed_query, nearest_of_each
from pipeline.schema import DOC_ID

BEST = (1, 5)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--bank", required=True)
    parser.add_argument("--column", default="title", help="default: %(default)s")
    arguments = parser.parse_args()
    bank = open_bank(arguments.bank)
    codec = load_bank_codec(bank)
    titles = {doc: text for batch in bank.rows([DOC_ID, arguments.column]) for doc, text in _pairs(batch) if text}
    report = Report("search", arguments.json, backbone=codec.backbone.name, documents=len(titles))
    for name, embed in {"as it is": once, "repeated": embed_query}.items():
        queries_QE = np.stack([embed(codec, title) for title in titles.values()])
        hits = nearest_of_each(bank, queries_QE, max(BEST))
        for k in BEST:
            found = [doc in {hit.doc_id for hit in near[:k]} for doc, near in zip(titles, hits, strict=True)]
            report.line(f"documents found, query {name}, among the first {k}", sum(found) / len(found))
    report.close()


def once(codec: Codec, query: str) -> np.ndarray:
    """[E] of the query as a chunk of its own."""
    chunk = next(codec.tokenizer.chunks(query, codec.config.chunk_tokens)).token_ids
    return codec.memorise([chunk], verify=False)[0].embedding_E


def _pairs(batch):
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


if __name__ == "__main__":
    main()
