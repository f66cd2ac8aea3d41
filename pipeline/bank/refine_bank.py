"""Refine the rows of an existing bank: recall each exactly, refine its latents, put the row back in a commit.

File by file, so that a document's rows stay in one file and in order. A commit takes a file out and brings the same
rows back, some of them refined; it stands only on the version that it was decided on, so encoding may go on beside it.
How far a row has been refined stands in the row: a job that was killed goes on where its last commit ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake.exceptions import CommitFailedError

from model.batches import batches
from model.codec import Codec
from model.config import RefineConfig
from model.memory import Memory
from model.patch import NOTHING
from pipeline.bank.bank import Bank
from pipeline.bank.commit import ATTEMPTS, add_actions, remove_actions, swap
from pipeline.bank.count import Count, Told
from pipeline.bank.presence import Presence, refuse_beside
from pipeline.bank.recall import BATCH, COLUMNS, is_damaged, stored
from pipeline.bank.unit_file import KEPT, unit_of
from pipeline.schema import CHUNK_ID, CODES, FIDELITY, NUM_TOKENS, PATCH, REFINE_STEPS, SCALES

PIECE = 128  # rows refined between two commits: what a job that is killed loses at most
MADE = (CODES, SCALES, FIDELITY, PATCH, REFINE_STEPS)  # columns that refining changes


@dataclass(frozen=True, slots=True)
class RefinedRows:
    """What was done since the last one, in a commit or without. Figures are sums over the refined rows."""

    rows: int = 0
    steps: int = 0
    fidelity_before: float = 0.0
    fidelity: float = 0.0
    patch_bytes_before: int = 0
    patch_bytes: int = 0
    inexact: int = 0  # rows that do not recall exactly, and stay as they are: there is nothing to refine towards
    not_finite: int = 0  # rows that stay as they are because refining met NaN or infinity


def refine_bank(
    bank: Bank,
    load_codec: Callable[[], Codec],
    config: RefineConfig,
    *,
    where: pc.Expression | None = None,
    on_progress: Told = lambda done, of: None,
) -> RefinedRows:
    """Refine the newest version's rows, those of `where` alone if it is given; the sums of all that was done.

    `on_progress` is told how many chunks are refined, and of how many. Raises BusyError beside a tend or a refine.
    """
    bank.reload()
    with Presence(bank.folder, "refine") as presence:
        presence.begin(state="refining")
        refuse_beside(bank.folder, "tend", "refine", but=presence.record.job)
        count = Count(on_progress)
        refiner = BankRefiner(bank, load_codec(), config, where=where, on_refined=count)
        count.of = refiner.count()
        presence.update(chunks=count.of)
        count(0)
        sums = Counter[str]()
        for raised in refiner.refine():
            sums.update(asdict(raised))
            presence.update(done_chunks=sums["rows"])
    return RefinedRows(**sums)


class BankRefiner:
    """Refines a bank's rows with its own codec, those of `where` alone if it is given."""

    def __init__(
        self,
        bank: Bank,
        codec: Codec,
        config: RefineConfig,
        *,
        where: pc.Expression | None = None,
        on_refined: Callable[[int], object] = lambda rows: None,
    ):
        self.bank, self.codec, self.config, self.on_refined = bank, codec, config, on_refined
        bank.add_columns()
        self._wanted = _unfinished(config.steps) if where is None else _unfinished(config.steps) & where
        self._seen: set[str] = set()

    def count(self) -> int:
        """Rows to be refined, as the bank is now."""
        return sum(batch.num_rows for batch in self.bank.rows([CHUNK_ID], self._wanted, batch_rows=65_536))

    def refine(self) -> Iterator[RefinedRows]:
        """Until no row is left to be refined. Raises CommitFailedError where the bank changes without end."""
        done: set[str] = set()
        while path := next((path for path in self.bank.files() if path not in done), None):
            raised = self._piece(path)
            if raised is None:
                done.add(path)
            else:
                yield raised

    def _piece(self, path: str) -> RefinedRows | None:
        """At most PIECE rows of a file, in a commit; None where the file has none left."""
        file = ds.dataset([path], self.bank.schema, "parquet", self.bank.folder.filesystem)
        places = self._places(file)[:PIECE]
        if not places:
            return None
        table, sums = file.to_table(), Counter[str]()
        rows = table.select([*COLUMNS, REFINE_STEPS]).take(places).to_pylist()
        changed = {place: new for place, new in zip(places, self._refined(rows, sums), strict=True) if new}
        if changed and not self._commit(path, _changed(table, changed), len(changed)):
            return None  # the file has gone, joined with others or replaced: its rows are met elsewhere
        self._seen.update(row[CHUNK_ID] for row in rows)
        return RefinedRows(**sums)

    def _places(self, file: ds.Dataset) -> list[int]:
        """Of the rows that are wanted and have not been tried yet, from the top of the file."""
        columns = {"wanted": self._wanted, CHUNK_ID: pc.field(CHUNK_ID)}
        looked = zip(*(column.to_pylist() for column in file.to_table(columns=columns).columns), strict=True)
        return [place for place, (wanted, chunk_id) in enumerate(looked) if wanted and chunk_id not in self._seen]

    def _refined(self, rows: Sequence[dict], sums: Counter[str]) -> list[dict | None]:
        """New values of each row's MADE columns, None for one that stays as it is."""
        made: list[dict | None] = [None] * len(rows)
        damaged = {i for i, row in enumerate(rows) if is_damaged(row, self.codec)}
        sums["inexact"] += len(damaged)
        whole = [i for i, row in enumerate(rows) if i not in damaged and not self.codec.patches.keeps_text(row[PATCH])]
        for group in batches([rows[i][NUM_TOKENS] for i in whole], BATCH[self.codec.backbone.device.type]):
            where = [whole[i] for i in group]
            for i, new in zip(where, self._batch([rows[i] for i in where], sums), strict=True):
                made[i] = new
            self.on_refined(len(where))
        return made

    def _batch(self, rows: Sequence[dict], sums: Counter[str]) -> list[dict | None]:
        memories = [stored(row) for row in rows]
        recalled = self.codec.recall(memories)
        exact = [i for i, each in enumerate(recalled) if each.exact]
        sums["inexact"] += len(rows) - len(exact)
        made: list[dict | None] = [None] * len(rows)
        if exact:
            latents_BKD = self.codec.stored_latents([memories[i] for i in exact])
            chunks = [recalled[i].token_ids for i in exact]
            refined = self.codec.refine(latents_BKD, chunks, self.config)
            for i, memory in zip(exact, self.codec.keep(latents_BKD, chunks, refined=refined), strict=True):
                made[i] = _better(rows[i], memory, sums)
        return made

    def _commit(self, path: str, table: pa.Table, refined: int) -> bool:
        """The file out, the same rows with the refined ones in; whether it was still there."""
        files = list(self.bank.writer().write_files(unit_of(path) or KEPT, table.to_batches()))
        for _ in range(ATTEMPTS):
            if path not in self.bank.files():
                for file in files:
                    self.bank.folder.remove(file.path)
                return False
            if swap(self.bank, [*remove_actions([path]), *add_actions(files)], {"refined_rows": refined}):
                return True
        raise CommitFailedError(
            f"{self.bank.folder.uri} changed under each of {ATTEMPTS} attempts to put refined rows in: try again"
        )


def _unfinished(steps: int) -> pc.Expression:
    """Verified rows that need a patch and were refined by fewer steps, if at all."""
    fewer = pc.field(REFINE_STEPS).is_null() | (pc.field(REFINE_STEPS) < steps)
    return fewer & pc.field(PATCH).is_valid() & (pc.field(PATCH) != pa.scalar(NOTHING, pa.binary()))


def _better(row: dict, memory: Memory, sums: Counter[str]) -> dict | None:
    """The refined row's values, its own where they are no worse; None where refining met NaN."""
    if not memory.refining.finite:
        sums["not_finite"] += 1
        return None
    new = {CODES: memory.codes, SCALES: memory.scales, FIDELITY: memory.fidelity, PATCH: memory.patch}
    if len(memory.patch) >= len(row[PATCH]):
        new = {name: row[name] for name in new}
    sums.update(rows=1, steps=memory.refining.steps, fidelity_before=row[FIDELITY], fidelity=new[FIDELITY])
    sums.update(patch_bytes_before=len(row[PATCH]), patch_bytes=len(new[PATCH]))
    return new | {REFINE_STEPS: (row[REFINE_STEPS] or 0) + memory.refining.steps}


def _changed(table: pa.Table, changed: dict[int, dict]) -> pa.Table:
    """The table with new values in some rows of the MADE columns."""
    for name in MADE:
        values = table[name].to_pylist()
        for place, new in changed.items():
            values[place] = new[name]
        at, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table
