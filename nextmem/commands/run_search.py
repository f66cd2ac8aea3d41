"""`nextmem search`: the rows nearest to a query, with their text when asked."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from jobs.output import emit, share
from model.codec import Codec
from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.lookup import by_chunk_id
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.recall import InexactRecall, Recalled, recall
from pipeline.bank.search import Hit, embed_query, nearest


def run_search(uri: str, query: str, *, k: int, with_text: bool, backbone: str | None, as_json: bool) -> None:
    """Print the k best rows. Raises InexactRecall for a row whose text cannot be given."""
    if not query.strip():
        raise Refusal("the query is empty: give a few words to search for")
    bank = open_bank(uri)
    codec = load_bank_codec(bank, backbone=backbone)
    hits = nearest(bank, embed_query(codec, query), k)
    texts = _texts(bank, codec, hits) if with_text else {}
    for hit in hits:
        _print(hit, texts.get(hit.chunk_id), as_json)


def _texts(bank: Bank, codec: Codec, hits: list[Hit]) -> dict[str, Recalled]:
    if not hits:
        return {}
    rows: pa.Table = by_chunk_id(bank, [hit.chunk_id for hit in hits])
    texts = {row.chunk_id: row for row in recall(rows.to_batches(), codec)}
    for row in texts.values():
        if not row.exact:
            raise InexactRecall(row)
    return texts


def _print(hit: Hit, row: Recalled | None, as_json: bool) -> None:
    if as_json:
        text = {} if row is None else {schema.TEXT: row.text, "exact": row.exact, "carried": row.carried}
        emit(asdict(hit) | text)
        return
    print(f"{hit.score:+.4f}  {hit.chunk_id}  {hit.doc_id} [{hit.char_start}:{hit.char_end}]")
    if row is not None:
        print(f"         latents carry {share(row.carried)}\n{_indented(row.text)}\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())
