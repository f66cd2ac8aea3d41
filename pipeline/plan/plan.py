"""A corpus becomes work units, planned once; then what a bank holds already is left out, looked at anew on every run.

    plan_corpus   listing, columns, unit size -> Plan    stored: a restart does not read the text again
    Plan.against  what the bank holds now     -> Work    the units left to encode, and what to leave out of them

A plan depends on the input alone, never on how many workers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType

import numpy as np

from model.refusal import Refusal
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.documents import Again, ColumnRoles
from pipeline.corpus.metadata import settled
from pipeline.corpus.spool import spooled
from pipeline.plan.fingerprint import fingerprint
from pipeline.plan.packing import Packing
from pipeline.plan.plan_file import Counts, PlanFile, Planned, PlanWriter
from pipeline.plan.seen import HeldIndex
from pipeline.plan.units import Unit
from pipeline.storage import storage


def plan_corpus(
    arguments: Sequence[str],
    columns: ColumnRoles,
    *,
    unit_chunks: int,
    folder: str,
    scratch: str | None = None,
    progress: Callable[[Counts], None] | None = None,
    by_content: bool = False,
) -> Plan:
    """The plan of a corpus, from `folder` if it was planned before, else by one pass over the input.

    A new plan is stored in `folder`, or in `scratch` where one is given: `folder` is then only read.

    The stored plan is named by the input's listing (path, size, times of change; `by_content`: path and a hash of the
    bytes), the columns and `unit_chunks`, so any change plans anew; units whose documents are unchanged keep their ids.
    Raises what `corpus_files` and
    `metadata_fields` raise, and ValueError if the corpus holds no record at all. `progress` is called every few MB
    of a pass with what was packed so far.
    """
    if unit_chunks < 1:
        raise Refusal(f"unit_chunks is {unit_chunks}: wanted at least 1")
    corpus = Corpus(tuple(arguments), columns.text)
    name = fingerprint(corpus, columns, unit_chunks, by_content=by_content) + ".plan.parquet"
    stored = _stored(storage.join(storage.absolute(folder), name), columns)
    target = storage.join(storage.absolute(scratch or folder), name)
    return stored or _planned(target, corpus, columns, unit_chunks, progress)


Among = Callable[[Iterable[str]], Collection[str]]
"""Those of the ids that something is true of."""


class Plan:
    """All units of a corpus, on disk."""

    def __init__(self, uri: str, columns: ColumnRoles):
        """FileNotFoundError if there is no plan, ValueError if it is torn."""
        self._file = PlanFile(uri)
        self.uri = uri
        self.columns = replace(columns, metadata_fields=self._file.fields)  # what `read_unit` wants
        self.counts: Counts = self._file.counts

    def unit_ids(self) -> Iterator[str]:
        """In input order."""
        for group in range(self._file.num_groups):
            yield from self._file.sizes(group)["unit_id"]

    def against(
        self,
        held: Iterable[tuple[str, str]] = (),
        finished: Container[str] = frozenset(),
        *,
        replacements: int = 0,
        losses: bool = False,
        again: Mapping[str, Again] = MappingProxyType({}),
        committed: int = 0,
        forgotten: Among | None = None,
    ) -> Work:
        """What is left to do for a bank that holds these (doc_id, doc_hash) and has finished these units.

        `held` is streamed into an index on disk, and not touched if every unit is finished. It may leave out the
        documents of finished units of this plan: no other unit of the plan has them. `replacements`: how often the bank
        has replaced documents. If ever, finished units are looked at too: a text that was changed and changed back
        makes its first unit again, whose rows are gone. `losses`: rows of finished units may be gone for no such
        reason, so whatever is not held is encoded again; `finished` must then hold every unit of the bank.
        `again`: documents of finished units that encoders left out, and that are to be tried again. `committed`: the
        documents that the bank holds of units that are not looked at, for the count. `forgotten`: those among some ids
        that the bank has forgotten, where there are any; they are left out whatever else is true of them.
        """
        pending = self._pending(finished, with_finished=replacements > 0, again=again)
        index = HeldIndex(held if len(pending.groups) else ())
        known = None if index.is_empty and not replacements and not again and not forgotten else index
        lost = finished if losses else None
        work = Work(self._file, pending, known, replacements, lost, again, forgotten or _none)
        gone = self._forgotten_beside(pending, forgotten) if forgotten else 0
        counts = work.counts
        work.counts = replace(counts, held=counts.held + committed, forgotten=counts.forgotten + gone)
        return work

    def units(self, finished: Container[str] = frozenset()) -> Iterator[Unit]:
        """The units that are not finished, longest first, for a bank that holds nothing else."""
        return self.against((), finished).units()

    def _forgotten_beside(self, pending: _Pending, forgotten: Among) -> int:
        """How many documents are forgotten of the units that nobody looks at."""
        looked, count = set(zip(pending.groups.tolist(), pending.places.tolist(), strict=True)), 0
        for group in range(self._file.num_groups):
            units = enumerate(self._file.doc_ids(group))
            count += sum(len(forgotten(doc_ids)) for place, doc_ids in units if (group, place) not in looked)
        return count

    def _pending(self, finished: Container[str], *, with_finished: bool, again: Container[str]) -> _Pending:
        rows = []
        for group in range(self._file.num_groups):
            sizes = self._file.sizes(group)
            done = np.array([unit_id in finished for unit_id in sizes["unit_id"]], bool)
            wanted = np.array([with_finished or unit_id in again for unit_id in sizes["unit_id"]], bool)
            places = np.flatnonzero(~done | wanted)
            columns = [np.array(sizes[name], np.int64)[places] for name in ("chunks", "documents", "rejected")]
            rows.append(np.stack([np.full(len(places), group), places, *columns, done[places]]))
        return _Pending(np.concatenate(rows, axis=1))


@dataclass(frozen=True, slots=True)
class WorkCounts:
    """What is left to do, and why the rest is not."""

    units: int
    documents: int  # to encode
    chunks: int  # to encode, estimated
    held: int  # documents of the corpus that the bank has
    changed: int  # documents of pending units that the bank has with another text
    rejected: int  # records of pending units
    forgotten: int = 0  # documents of the corpus that the bank was told to forget


class Work:
    """The units left to encode for one bank. Lazy: a row group of the plan is in memory, and the list of places."""

    def __init__(
        self,
        file: PlanFile,
        pending: _Pending,
        index: HeldIndex | None,
        replacements: int,
        finished: Container[str] | None,
        again: Mapping[str, Again],
        forgotten: Among,
    ):
        """`finished`: every unit of the bank, where rows were lost. `again`, `forgotten`: see `Plan.against`."""
        self._file, self._index, self._replacements, self._finished = file, index, replacements, finished
        self._again, self._forgotten = again, forgotten
        self.counts: WorkCounts  # of the units that are looked at
        self._pending, self.counts = (pending, pending.counts()) if index is None else self._look(pending)

    def units(self, *, backwards: bool = False) -> Iterator[Unit]:
        """Longest first, to within a factor of about two, so that a pass over the plan stays sequential.

        `backwards`: shortest first, for a job beside another one, so that the two meet and do not go side by side.
        """
        order = self._pending.longest_first()
        yield from self._units(order.take(range(len(order.groups))[::-1]) if backwards else order)

    def some(self, count: int) -> Iterator[Unit]:
        """At most `count` of the units, spread evenly over the input."""
        units = len(self._pending.groups)
        count = min(count, units)
        yield from self._units(self._pending.take([i * units // count for i in range(count)]))

    def _look(self, pending: _Pending) -> tuple[_Pending, WorkCounts]:
        """Leaves out the units with nothing new, and counts."""
        keep, tally = [], dict.fromkeys(WorkCounts.__dataclass_fields__, 0)
        for i, (unit, held, forgotten) in enumerate(self._looked_at(pending)):
            tally["held"] += held
            tally["forgotten"] += forgotten
            if pending.done[i] and not self._is_wanted_again(unit):
                continue
            if unit.new_documents or unit.rejected:
                keep.append(i)
                tally["units"] += 1
                tally["documents"] += unit.new_documents
                tally["chunks"] += unit.planned_chunks
                tally["changed"] += len(unit.replaces)
                tally["rejected"] += 0 if pending.done[i] else unit.rejected
        return pending.take(keep), WorkCounts(**tally)

    def _is_wanted_again(self, unit: Unit) -> bool:
        """Whether a finished unit lacks rows: replaced ones, lost ones that have not been made again, rejected ones."""
        lost = self._finished is not None and unit.new_documents and unit.commit_id not in self._finished
        return bool(unit.replaces or lost or (unit.retry and unit.new_documents))

    def _units(self, pending: _Pending) -> Iterator[Unit]:
        return (unit for unit, *_ in self._looked_at(pending))

    def _looked_at(self, pending: _Pending) -> Iterator[tuple[Unit, int, int]]:
        """Each unit, less what is not to be encoded; how many of its documents the bank holds, and has forgotten."""
        for group, places in groupby(range(len(pending.groups)), key=lambda i: pending.groups[i]):
            rows = list(places)
            chosen = pending.places[rows].tolist()
            found = self._file.units(int(group), chosen, with_documents=self._index is not None)
            for planned, done in zip(found, pending.done[rows], strict=True):
                yield self._checked(planned, bool(done))

    def _checked(self, planned: Planned, done: bool) -> tuple[Unit, int, int]:
        """A finished unit keeps only what was replaced, or lost, or is to be tried again."""
        if self._index is None:
            return planned.unit, 0, 0
        hashes = self._index.hashes(planned.doc_ids, planned.doc_hashes)
        pairs = list(zip(planned.doc_ids, planned.doc_hashes, strict=True))
        again = self._again.get(planned.unit.unit_id) if done else None
        rejected = again.doc_ids if again else frozenset()
        absent = None if done and self._finished is None else ""
        found = [hashes.get(doc_id, "" if doc_id in rejected else absent) for doc_id, _ in pairs]
        gone = self._forgotten(planned.doc_ids)
        left_out = tuple(i for i, (doc_id, known) in enumerate(pairs) if found[i] in (known, None) or doc_id in gone)
        changed = tuple(doc_id for doc_id, known in pairs if hashes.get(doc_id, known) != known and doc_id not in gone)
        unit = replace(
            planned.unit,
            held=left_out,
            replaces=changed,
            redo=self._replacements if done else 0,
            retry=again.number if again else 0,
        )
        return unit, sum(hashes.get(doc_id) == known for doc_id, known in pairs if doc_id not in gone), len(gone)


class _Pending:
    """Where units stand in the plan's file, how long they are, and whether they were finished: 48 bytes a unit."""

    def __init__(self, rows: np.ndarray):
        self._rows = rows  # (6, units), int64
        self.groups, self.places, self._chunks, self._documents, self._rejected, self.done = rows

    def take(self, order: Sequence[int]) -> _Pending:
        return _Pending(self._rows[:, np.asarray(order, np.int64)])

    def longest_first(self) -> _Pending:
        classes = np.round(np.log2(np.maximum(self._chunks, 1)))
        return self.take(np.lexsort((self.places, self.groups, -classes)))

    def counts(self) -> WorkCounts:
        documents, chunks, rejected = (int(row.sum()) for row in (self._documents, self._chunks, self._rejected))
        return WorkCounts(len(self.places), documents, chunks, held=0, changed=0, rejected=rejected)


def _none(doc_ids: Iterable[str]) -> Collection[str]:
    return ()


def _stored(uri: str, columns: ColumnRoles) -> Plan | None:
    try:
        return Plan(uri, columns)
    except (FileNotFoundError, ValueError):  # none, or a torn one: plan anew
        return None


def _planned(uri: str, corpus: Corpus, columns: ColumnRoles, unit_chunks: int, progress: Callable | None) -> Plan:
    columns = settled(corpus, columns)
    files = (spooled(file, storage.parent(uri)) for file in corpus)
    packing = Packing(files, columns, unit_chunks, progress)
    with storage.whole_file(uri) as file, PlanWriter(file, columns.metadata_fields) as writer:
        for planned in packing:
            writer.add(planned)
        counts = packing.counts
        if not counts.units:
            raise Refusal(f"the corpus holds no documents: its {counts.files} files are empty. Give it some text")
        writer.finish(counts)
    return Plan(uri, columns)
