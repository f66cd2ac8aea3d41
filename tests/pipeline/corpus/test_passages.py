"""What training reads: the very chunks that encoding makes of the same texts."""

from __future__ import annotations

import json

import numpy as np

from model.tokens import text_hash
from model.training.passages import Passages
from model.weights import find_weights
from pipeline import schema
from pipeline.corpus.documents import Document
from pipeline.corpus.passages import prepare_passages
from pipeline.encode.chunk import chunk_documents

# Bytes are this tokenizer's tokens: 16 of them end inside a character of four.
TEXTS = [f"{i}: " + "\U0001f680" * 3 + " caf\u00e9 " + "e\u0301" * 3 + " na\u00efve" * i for i in range(1, 12)]


def test_training_sees_the_chunks_that_encoding_makes(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    tokenizer = find_weights("tiny-llama").tokenizer()
    prepare_passages(
        [str(path)], tmp_path / "data", tokenizer,
        text_column="text", chunk_tokens=16, min_tokens=1, held_out=2, seed=0, say=lambda line: None,
    )  # fmt: skip
    documents = [Document(str(i), text, text_hash(text), f"texts.jsonl:{i + 1}") for i, text in enumerate(TEXTS)]
    encoded = chunk_documents(documents, tokenizer, chunk_tokens=16)[schema.TOKEN_IDS].to_pylist()
    passages = Passages.open(tmp_path / "data")
    trained = [passages.chunk(i).tolist() for i in range(len(passages))]
    assert sorted(trained) == sorted(encoded)
    blind = [list(ids[at : at + 16]) for ids in map(tokenizer.encode, TEXTS) for at in range(0, len(ids), 16)]
    assert sorted(blind) != sorted(encoded)  # what it was before: every sixteen ids
    assert np.diff(passages.offsets_N).max() <= 16
