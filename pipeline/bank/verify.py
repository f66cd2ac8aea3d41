"""Is every chunk there once, and does it recall exactly? First problems are looked for, then rows are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa

from model.tokens import text_hash
from pipeline.bank.bank import Bank
from pipeline.bank.codec_copy import local_codec
from pipeline.bank.count import Count, Told
from pipeline.bank.presence import refuse_beside
from pipeline.bank.problems import Problem, problems
from pipeline.bank.upkeep import drop

if TYPE_CHECKING:
    from model.codec import Codec
    from pipeline.bank.recall import Recalled


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying a bank found."""

    bank: str
    chunks: int  # in the bank
    decoded: int  # of them; none where the files or rows alone show that the bank is not whole
    problems: tuple[Problem, ...]  # that there are now
    damaged: tuple[Problem, ...] = ()  # files that could not be read, before the repair
    dropped: tuple[str, ...] = ()  # files that the repair took out: those, and the others of their units

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    bank: Bank,
    load_codec: Callable[[], Codec],
    *,
    sample: int | None = None,
    weights: bool = False,
    repair: bool = False,
    on_progress: Told = lambda done, of: None,
) -> Verdict:
    """Look for problems, and where there are none decode all rows, or `sample` of them at even distances.

    The codec is loaded for the decoding only. `weights`: hash the backbone's weight files whole, too. `repair`: files
    that are gone or torn leave the table first. `on_progress` is told how many rows are decoded, and of how many.
    Raises BusyError where a repair would run beside another job.
    """
    found = list(problems(bank))
    damaged = [problem for problem in found if problem.is_file] if repair else []
    dropped: list[str] = []
    if damaged:
        refuse_beside(bank.folder, "encode", "tend")
        dropped = drop(bank, [problem.where for problem in damaged])
        found = list(problems(bank))
    total, decoded = bank.count(), 0
    if not found and total:
        codec = load_codec()
        found.extend(_other_weights(codec, bank) if weights else ())
        decoded = min(total, sample or total)
        found.extend(_inexact(bank, codec, total, decoded, on_progress))
    return Verdict(bank.folder.uri, total, decoded, tuple(found), tuple(damaged), tuple(dropped))


def _other_weights(codec: Codec, bank: Bank) -> Iterator[Problem]:
    from model.codec_io import require_whole_weights

    try:
        require_whole_weights(codec, local_codec(bank.codec_path))
    except ValueError as error:
        yield Problem("the backbone", str(error))


def _inexact(bank: Bank, codec: Codec, total: int, wanted: int, on_progress: Told) -> Iterator[Problem]:
    """Rows that do not recall exactly, and documents whose chunks do not add up to their text."""
    from pipeline.bank.recall import recall  # torch, which the checks above need not load

    hashes = dict(bank.documents()) if wanted == total else {}
    yield from _wrong(recall(_sampled(bank, total, wanted), codec, on_decoded=Count(on_progress, wanted)), hashes)


def _sampled(bank: Bank, total: int, wanted: int) -> Iterator[pa.RecordBatch]:
    """So many rows at even distances."""
    from pipeline.bank.recall import COLUMNS

    places, seen = {i * total // wanted for i in range(wanted)}, 0
    for batch in bank.rows(COLUMNS):
        picked = [i for i in range(batch.num_rows) if seen + i in places]
        seen += batch.num_rows
        if picked:
            yield batch.take(pa.array(picked))


def _wrong(rows: Iterable[Recalled], hashes: dict[str, str]) -> Iterator[Problem]:
    """`hashes`: of the documents' texts by their ids, where all their chunks are among the rows."""
    from pipeline.bank.recall import InexactRecall

    for doc_id, chunks in groupby(rows, key=lambda row: row.doc_id):
        text = []
        for row in chunks:
            text.append(row.text)
            if not row.exact:
                yield Problem(f"chunk {row.chunk_id}", str(InexactRecall(row)))
        if hashes and text_hash("".join(text)) != hashes[doc_id]:
            yield Problem(f"document {doc_id!r}", "its chunks' texts together are not the text that was encoded")
