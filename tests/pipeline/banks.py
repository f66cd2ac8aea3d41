"""Small banks for tests: seeded rows with the real schema, K = 3 latents of width D = 64, embeddings of width E = 8."""

from __future__ import annotations

import datetime
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.bank import create as create_module
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt
from pipeline.bank.identity import CodecIdentity
from pipeline.bank.upkeep import remove, unneeded
from pipeline.schema import row_schema

K, D, E = 3, 64, 8
IDENTITY = CodecIdentity(
    backbone="tiny",
    codec_hash="c0dec",
    tokenizer_hash="70ken",
    num_latents=K,
    hidden_width=D,
    quantiser="nf4-standardised-64",
    pooling="mean",
    embedding_width=E,
    verify_precision="fp32",
    verify_margin=0.5,
    verify_merged=True,
)
ENCODED_AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def hex32(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def rows(unit_id: str, documents: dict[str, int], *, text: str = "v1", seed: int = 0, **metadata: list) -> pa.Table:
    """Rows of one unit: {doc_id: number of 10-character chunks}. `text` stands for the documents' content."""
    rng = np.random.default_rng(seed)
    places = [(doc_id, position) for doc_id, chunks in documents.items() for position in range(chunks)]
    vectors = rng.normal(size=(len(places), E))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fields = tuple(pa.field(name, pa.array(values).type) for name, values in metadata.items())
    columns = {
        "chunk_id": [hex32(f"{doc_id}/{position}/{text}") for doc_id, position in places],
        "doc_id": [doc_id for doc_id, _ in places],
        "position": [position for _, position in places],
        "char_start": [10 * position for _, position in places],
        "char_end": [10 * position + 10 for _, position in places],
        "num_tokens": [7] * len(places),
        "source": ["corpus.jsonl"] * len(places),
        "unit": [unit_id] * len(places),
        "codes": [rng.bytes(K * D // 2) for _ in places],
        "scales": [rng.uniform(size=K * D // 64).astype(np.float16).tobytes() for _ in places],
        "embedding": vectors.astype(np.float32).tolist(),
        "fidelity": [1.0 if position else 0.75 for _, position in places],
        "patch": [b"\x01\x02"] * len(places),
        "text_hash": [hex32(f"{text} {position}") for _, position in places],
        "text": [None] * len(places),
        "doc_hash": [hex32(f"{text} of {doc_id}") for doc_id, _ in places],
        "encoded_at": [ENCODED_AT] * len(places),
        "refine_steps": [None] * len(places),
        "stems": [None] * len(places),
        "edited": [None] * len(places),
        "edited_from": [None] * len(places),
    }
    return pa.table({**columns, **metadata}, schema=row_schema(fields))


def receipt(
    bank: Bank, unit_id: str, documents: dict[str, int], *, replaces: tuple[str, ...] = (), **kwargs
) -> Receipt:
    """The unit's rows written to files that no commit has named yet."""
    table = rows(unit_id, documents, **kwargs)
    files = tuple(bank.writer().write(unit_id, table))
    return Receipt(unit_id, files, len(documents), table.num_rows, 7 * table.num_rows, replaces=replaces)


def vacuum(bank: Bank, hours: int = 0) -> list[str]:
    """Remove what is unneeded and that old; which files went."""
    gone = unneeded(bank, orphan_hours=hours, version_hours=hours)
    remove(bank, gone)
    return [*gone.orphans, *gone.superseded]


def held(bank: Bank) -> dict[str, int]:
    """{doc_id: rows} as a reader who opens the bank now sees it."""
    count: dict[str, int] = {}
    for batch in Bank.open(bank.folder.uri).rows(["doc_id"]):
        for doc_id in batch.column(0).to_pylist():
            count[doc_id] = count.get(doc_id, 0) + 1
    return count


def codecs_of(folder: Path, *names: str) -> list[tuple[Path, CodecIdentity]]:
    """Codec folders that differ, and their identities."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "codec.safetensors").write_bytes(name.encode())
    return [(folder / name, replace(IDENTITY, codec_hash=name)) for name in names]


def race(monkeypatch, uri: str, codecs: list[tuple[Path, CodecIdentity]]) -> list[Bank | str]:
    """Every creator has copied its codec before the first one makes the table; a bank, or the refusal, of each."""
    real, copied = create_module._create_table, threading.Barrier(len(codecs))

    def create(*arguments):
        with suppress(threading.BrokenBarrierError):  # a second try, after a fault of the store
            copied.wait(timeout=10)
        real(*arguments)

    def attempt(codec: Path, identity: CodecIdentity) -> Bank | str:
        try:
            return Bank.create(uri, identity, codec=codec)
        except (FileExistsError, ValueError) as error:
            return str(error)

    monkeypatch.setattr(create_module, "_create_table", create)
    with ThreadPoolExecutor(len(codecs)) as pool:
        return list(pool.map(lambda each: attempt(*each), codecs))
