"""`nextmem encode` as a person runs it: a real Ray job in a process of its own, on a corpus written for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import documents
from model.tokens import TextTokenizer
from pipeline.corpus.documents import Document
from pipeline.encode.chunk import chunk_documents


def encode_command(corpus: Path, bank: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "nextmem.cli", "encode", str(corpus), str(bank), "--json", *arguments]


def run_encode(corpus: Path, bank: Path, *arguments: str) -> dict:
    """The job's own summary. SystemExit with what it said where it fails."""
    job = subprocess.run(encode_command(corpus, bank, *arguments), capture_output=True, text=True)
    if job.returncode:
        raise SystemExit(f"nextmem encode ended with {job.returncode}: {job.stderr.strip()[-2000:]}")
    return summary_of(job.stdout)


def summary_of(output: str) -> dict:
    return next(line for line in map(json.loads, output.splitlines()) if line["event"] == "summary")


def segments(corpus: str, tokenizer: TextTokenizer, limit: int, chunks: int, count: int) -> list[list[Document]]:
    """`count` runs of whole documents, each of about `chunks / count` chunks. SystemExit for a corpus with fewer."""
    found: list[list[Document]] = [[]]
    filled = 0
    for document in documents(corpus):
        found[-1].append(document)
        filled += sum(1 for _ in tokenizer.chunks(document.text, limit))
        if filled >= chunks / count:
            if len(found) == count:
                return found
            found.append([])
            filled = 0
    raise SystemExit(f"{corpus} has fewer than {chunks} chunks: ask for fewer, or name a larger one with --corpus")


def write_corpus(texts: Iterable[Document], path: Path) -> Path:
    """Parquet, with a row group for every thousand documents."""
    texts = iter(texts)
    writer = None
    while group := list(islice(texts, 1000)):
        table = pa.table({"id": [d.doc_id for d in group], "text": [d.text for d in group]})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is None:
        raise ValueError("a corpus needs at least one document")
    writer.close()
    return path


def chunk_table(texts: Sequence[Document], tokenizer: TextTokenizer, limit: int) -> pa.Table:
    return chunk_documents(texts, tokenizer, chunk_tokens=limit)
