"""A bank with the tiny codec, and the two workers of an encode job without Ray: a reader and an encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from model.config import VerifyConfig
from pipeline.bank.bank import Bank
from pipeline.bank.identity import codec_identity
from pipeline.corpus.documents import ColumnRoles, Document, document_hash
from pipeline.encode.chunk import chunk_documents
from pipeline.encode.encode_work import EncodeWork
from pipeline.encode.ledger import Ledger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.read_work import ReadWork
from pipeline.plan.plan import plan_corpus

VERIFYING = VerifyConfig.of("fp32")
ARTICLES = {
    "fox": "The quick brown fox jumps over the lazy dog, twice a day.\n",
    "tokyo": "東京は日本の首都です。" * 3,
    "marks": "Zu\u0308rich 👩‍👩‍👧 e\u0301clair 🇯🇵" * 4,
}


TEXTS = {"long": "The quick brown fox jumps over the lazy dog. " * 3, "short": "Hi.", "accents": "Zürich, café, 東京."}


def chunk_table(codec, texts=TEXTS, **options):
    """The chunks of {id: text}."""
    documents = [Document(doc_id, text, document_hash(text), "corpus.jsonl:1") for doc_id, text in texts.items()]
    return chunk_documents(documents, codec.tokenizer, chunk_tokens=codec.config.chunk_tokens, **options)


def jsonl(path: Path, documents: dict[str, str], **metadata: list) -> Path:
    """A corpus file of {id: text}."""
    rows = [{"id": doc_id, "text": text} for doc_id, text in documents.items()]
    for name, values in metadata.items():
        rows = [row | {name: value} for row, value in zip(rows, values, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Works:
    """Plans a corpus for a new bank in `folder`; `read` and `encode` are what readers and encoders do."""

    def __init__(self, folder: Path, codec: Path, corpus: Path, *, metadata: tuple[str, ...] = (), **options):
        columns = ColumnRoles(metadata=metadata)
        unit_chunks = options.pop("unit_chunks", 1000)
        self.plan = plan = plan_corpus([str(corpus)], columns, unit_chunks=unit_chunks, folder=str(folder / "plan"))
        self.bank = Bank.create(
            folder / "bank", codec_identity(codec, VERIFYING), plan.columns.metadata_fields, codec=codec
        )
        self.units = list(plan.units())
        self.options = EncodeOptions(
            bank=self.bank.folder.uri, codec=self.bank.codec_path, verifying=VERIFYING, columns=plan.columns, **options
        )
        self.ledger = Ledger()
        self._encoder = None

    @property
    def encoder(self) -> EncodeWork:
        self._encoder = self._encoder or EncodeWork(self.options, self.ledger, worker="me")
        return self._encoder

    def another_process(self) -> None:
        """Whatever is encoded next is encoded by an encoder that has just started. The ledger is the same."""
        self._encoder = None

    def read(self, unit=None, **changes):
        return ReadWork(replace(self.options, **changes)).read(unit or self.units[0])

    def encode(self, unit=None):
        return self.encoder.encode(self.read(unit))
