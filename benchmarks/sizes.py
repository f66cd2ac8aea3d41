"""Bytes of a chunk as stored, by column.

    python -m benchmarks.sizes --corpus articles.parquet --chunks 128
    python -m benchmarks.sizes --bank BANK

A bank saves context and prefill, not disk: the text of a chunk, about half a KB, is printed beside its row.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.harness import Ratio, Report, options
from benchmarks.jobs import run_encode, segments, write_corpus
from model.weights import find_weights
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.info import info
from pipeline.storage import storage

CHUNK_TOKENS = 128


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--bank", help="measure this one; default: encode some of the corpus")
    parser.add_argument("--chunks", type=int, default=128)
    arguments = parser.parse_args()
    report = Report("sizes", arguments.json, backbone=arguments.backbone)
    if arguments.bank:
        measure(report, arguments.bank)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            measure(report, _encoded(report, arguments, Path(scratch)))
    report.close()


def measure(report: Report, bank: str) -> None:
    found = info(Bank.open(storage.absolute(bank)))
    report.line("chunks", found.chunks)
    report.line("codec", f"K {found.identity.num_latents}, D {found.identity.hidden_width}")
    sizes = {name: size / found.chunks for name, size in found.column_bytes.items()}
    for name, size in sizes.items():
        report.line(f"{name}, bytes a chunk", size)
    latents = sizes[schema.CODES] + sizes[schema.SCALES]
    without_text = found.bytes_per_chunk - sizes.get(schema.TEXT, 0.0)
    report.line("everything, bytes a chunk", found.bytes_per_chunk)
    report.ratio("codes and scales, bytes", Ratio(latents, latents, latents, 1), most=4700)
    report.ratio("a row without text, bytes", Ratio(without_text, without_text, without_text, 1), most=8192)


def _encoded(report: Report, arguments: argparse.Namespace, scratch: Path) -> str:
    tokenizer = find_weights(arguments.backbone).tokenizer()
    part = segments(arguments.corpus, tokenizer, CHUNK_TOKENS, arguments.chunks, 1)[0]
    bank = scratch / "bank"
    done = run_encode(write_corpus(part, scratch / "corpus.parquet"), bank, "--backbone", arguments.backbone)
    text = sum(len(document.text.encode()) for document in part)
    report.line("text, UTF-8 bytes a chunk", text / done["chunks"])
    return str(bank)


if __name__ == "__main__":
    main()
