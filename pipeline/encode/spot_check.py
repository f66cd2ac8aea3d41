"""The spot check: a few rows are recalled on the device that encoded them; "exact" is said of these alone.

Verifying is one parallel forward, recall is many small ones: where a device computes the two apart, a patch is worth
nothing, and every row shows it. So each encoder recalls some rows of the first unit that it does.
"""

from __future__ import annotations

import pyarrow as pa

from model.codec import Codec
from model.patch import RAW, TEXT
from pipeline.bank.recall import recall
from pipeline.encode.spread import spread
from pipeline.schema import PATCH


class SpotCheck:
    """Recalls at most `rows` rows in all, of the first unit that has any."""

    def __init__(self, codec: Codec, rows: int):
        self.codec, self.left = codec, rows
        self._numbers: dict[str, float] = {}

    def look(self, rows: pa.Table) -> None:
        """Recall some of these memory rows, if none were before. Raises NotFiniteError."""
        sample = spread(_verified(rows), self.left) if self.left else rows.slice(0, 0)
        if sample.num_rows:
            self.left = 0
            found = list(recall(sample.to_batches(), self.codec))
            self._numbers = {"recalled": len(found), "recalled_exactly": sum(row.exact for row in found)}

    def take_numbers(self) -> dict[str, float]:
        """How many rows were recalled since the last call, and how many exactly, to be added up by the summary."""
        numbers, self._numbers = self._numbers, {}
        return numbers


def _verified(rows: pa.Table) -> pa.Table:
    """Rows that have a patch; where there are any, those alone whose latents decide."""
    kinds = [patch[:1] if patch else None for patch in rows[PATCH].to_pylist()]
    decided = [kind is not None and kind not in (bytes([RAW]), bytes([TEXT])) for kind in kinds]
    return rows.filter(pa.array(decided if any(decided) else [kind is not None for kind in kinds], pa.bool_()))
