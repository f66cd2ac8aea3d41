"""What a query costs in a bank of many rows: by latents with every row read and by an index, and by words.

    python -m benchmarks.many_rows --rows 1000000

The rows are made up: embeddings of 384 values around some thousand centres, words drawn as often as words are, and
latents of a few bytes, which a search does not read. The figures are seconds of one query, the median of several, and
the most memory that the process held.
"""

from __future__ import annotations

import resource
import tempfile

import numpy as np
import pyarrow as pa

from benchmarks.harness import Report, options, timed
from benchmarks.made_up import hex32
from benchmarks.made_up import rows as made_up_rows
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.build_index import build_index
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.identity import CodecIdentity
from pipeline.bank.index import open_index
from pipeline.bank.search import nearest
from pipeline.bank.word_search import nearest_by_words
from pipeline.stems import STEM, hashes

WIDTH, CENTRES, NOISE = 384, 2000, 0.5
UNIT = 20_000  # rows
VOCABULARY, WORDS = 50_000, 60  # words there are; stems a chunk
QUERY = "word12 word80 word700 word3000 word9000 word20000"
IDENTITY = CodecIdentity(
    backbone="made up", codec_hash="none", tokenizer_hash="none", num_latents=1, hidden_width=64, quantiser="none",
    pooling="none", embedding_width=WIDTH, verify_precision="none", verify_margin=0.0, verify_merged=True,
)  # fmt: skip


def main() -> None:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--recall", type=float, default=0.95, help="of the index; default: %(default)s")
    arguments = parser.parse_args()
    report = Report("many_rows", arguments.json, rows=arguments.rows, embedding=WIDTH)
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, WIDTH), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="many-rows-") as folder:
        bank = Bank.create(f"{folder}/bank", IDENTITY)
        report.line("writing the bank", timed(lambda: _fill(bank, arguments.rows, centres)), "s")
        report.line("the bank", bank.stored_bytes() / 1e9, "GB")
        queries = [_around(centres, 1, random)[0] for _ in range(arguments.rounds)]
        report.line("by latents, every row read", [timed(lambda q=q: nearest(bank, q, 10)) for q in queries], "s")
        report.line("most memory until then", _memory(), "MB")
        words = [timed(lambda: nearest_by_words(bank, QUERY, 10)) for _ in queries]
        report.line("by words", words, "s")
        report.line("most memory until then", _memory(), "MB")
        report.line("building the index", timed(lambda: _index(bank, arguments.recall, report)), "s")
        report.line("most memory until then", _memory(), "MB")
        report.line(
            "by the index, opening it", [timed(lambda q=q: open_index(bank).nearest(q, 10)) for q in queries], "s"
        )
        found = [_share(bank, query) for query in queries]
        report.line("share of the true ten that the index finds", sum(found) / len(found))
    report.close()


def _fill(bank: Bank, rows: int, centres: np.ndarray) -> None:
    for number, first in enumerate(range(0, rows, UNIT)):
        table = _rows(f"u{number}", min(UNIT, rows - first), centres, number)
        files = tuple(bank.writer().write(f"u{number}", table))
        commit(bank, [Receipt(f"u{number}", files, documents=1, chunks=table.num_rows)])


def _rows(unit_id: str, count: int, centres: np.ndarray, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    table = made_up_rows(unit_id, 1, seed=seed).slice(0, 0)
    vectors = _around(centres, count, random)
    offsets = pa.array(np.arange(0, vectors.size + 1, WIDTH), pa.int32())
    columns = {
        schema.CHUNK_ID: [hex32(f"{unit_id}/{position}") for position in range(count)],
        schema.POSITION: range(count),
        schema.CHAR_START: range(0, 500 * count, 500),
        schema.CHAR_END: range(500, 500 * count + 1, 500),
        schema.EMBEDDING: pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())),
        schema.STEMS: _stems(count, random),
    }
    same = made_up_rows(unit_id, 1, seed=seed).to_pylist()[0] | {
        schema.CODES: b"",
        schema.SCALES: b"",
        schema.PATCH: b"",
    }
    made = [columns.get(field.name, [same[field.name]] * count) for field in table.schema]
    arrays = [pa.array(values).cast(field.type) for values, field in zip(made, table.schema, strict=True)]
    return pa.table(arrays, schema=table.schema)


def _around(centres: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """float32 [count, WIDTH], of length 1."""
    vectors = centres[random.integers(len(centres), size=count)]
    vectors = vectors + NOISE * random.standard_normal(vectors.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _stems(count: int, random: np.random.Generator) -> list[bytes]:
    """Words by Zipf's law: the nth is n times rarer than the first."""
    known = np.array(hashes([f"word{n}" for n in range(VOCABULARY)]), np.uint32)
    shares = 1 / np.arange(1, VOCABULARY + 1)
    drawn = random.choice(VOCABULARY, (count, WORDS), p=shares / shares.sum())
    packed = []
    for chosen in drawn:
        numbers, counts = np.unique(known[chosen], return_counts=True)
        row = np.empty(len(numbers), STEM)
        row["stem"], row["count"] = numbers, counts
        packed.append(row.tobytes())
    return packed


def _index(bank: Bank, recall: float, report: Report) -> None:
    made = build_index(bank, recall=recall)
    report.line("lists; of which a search reads", f"{made.lists:,}; {made.probes:,}")
    report.line("recall@10, over mixes of two rows", made.recall)
    report.line("the index", made.bytes / 1e9, "GB")


def _share(bank: Bank, query: np.ndarray) -> float:
    ours, true = open_index(bank).nearest(query, 10), nearest(bank, query, 10)
    return len({hit.chunk_id for hit in ours} & {hit.chunk_id for hit in true}) / len(true)


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
