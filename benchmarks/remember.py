"""What a thousand remembers, one commit each, cost a search: with files joined as they come, and without.

    python -m benchmarks.remember --notes 1000

The codec is an untrained one on the two-layer Llama, so that almost all of a remember is not the model: looking whether
the document is there, the file, the commit. Notes are a line long, a chunk each. After each --every notes it times a
search over a bank that is opened anew, reads its files, and at the end tends it and searches once more. Times are of
this machine while it is as busy as it is; the number of files is exact.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Report, options
from model.codec import Codec
from model.codec_io import load_codec
from model.config import CodecConfig, VerifyConfig
from model.default_codec import untrained_codec_folder
from pipeline.bank.bank import Bank
from pipeline.bank.identity import codec_identity
from pipeline.bank.search import embed_query, nearest
from pipeline.bank.tend import tend
from pipeline.change import put
from pipeline.change.given import Columns, documents_given
from pipeline.change.remember import remember

CONFIG = CodecConfig(chunk_tokens=64, num_latents=4)
VERIFYING = VerifyConfig.of("fp32")
SEARCHES = 5


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--notes", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--every", type=int, default=250, help="notes between two searches; default: %(default)s")
    arguments = parser.parse_args()
    folder = untrained_codec_folder("tiny-llama", CONFIG)
    codec = load_codec(folder, backbone_name="tiny-llama", verifying=VERIFYING)
    report = Report("remember", arguments.json, notes=arguments.notes)
    for name, fan in {"joined as they come": put.FAN, "not joined": arguments.notes + 2}.items():
        put.FAN = fan
        with tempfile.TemporaryDirectory() as place:
            bank = Bank.create(Path(place) / "bank", codec_identity(folder, VERIFYING), codec=folder)
            fill(report, name, bank, codec, arguments.notes, arguments.every)
    report.close()


def fill(report: Report, name: str, bank: Bank, codec: Codec, notes: int, every: int) -> None:
    query_E = embed_query(codec, "note 17 of the day")
    took: list[float] = []
    for number in range(1, notes + 1):
        documents = documents_given(f"Note {number}: the ferry leaves at {number % 24}.", Columns(()), {})
        start = time.perf_counter()
        remember(bank, lambda: codec, documents)
        took.append(1000 * (time.perf_counter() - start))
        if number % every == 0:
            report.line(f"{name}: a remember, of the last {every}", statistics.median(took[-every:]), "ms")
            look(report, f"{name}, {number:,} notes", bank, query_E)
    report.line(f"{name}: stored, older versions too", stored_bytes(bank) / 1e6, "MB")
    start = time.perf_counter()
    tend(bank, orphan_hours=1, version_hours=168)
    report.line(f"{name}: tend", time.perf_counter() - start, "s")
    look(report, f"{name}, tended", bank, query_E)


def look(report: Report, name: str, bank: Bank, query_E: np.ndarray) -> None:
    opened = Bank.open(bank.folder.uri)
    report.line(f"{name}: files", len(opened.files()))
    report.line(f"{name}: open", median_ms(lambda: Bank.open(bank.folder.uri)), "ms")
    report.line(f"{name}: search", median_ms(lambda: nearest(opened, query_E, 5)), "ms")


def median_ms(call) -> float:
    took = []
    for _ in range(SEARCHES):
        start = time.perf_counter()
        call()
        took.append(1000 * (time.perf_counter() - start))
    return statistics.median(took)


def stored_bytes(bank: Bank) -> int:
    return sum(path.stat().st_size for path in Path(bank.folder.uri).glob("part-*.parquet"))


if __name__ == "__main__":
    main()
