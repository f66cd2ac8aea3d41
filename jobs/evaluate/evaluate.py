"""`nextmem evaluate`: every system put to every task on every set, and what came of it as one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from jobs.cluster.session import Session
from jobs.evaluate.figures import Figures
from jobs.evaluate.judge import Judge
from jobs.evaluate.kept import FILE, Kept
from jobs.evaluate.made import made_of
from jobs.evaluate.makers import Actors
from jobs.evaluate.opened import open_systems
from jobs.evaluate.outcome import Outcome
from jobs.evaluate.overall import overall, overall_differences
from jobs.evaluate.reader import open_reader
from jobs.evaluate.report.page import REPORT, write_page
from jobs.evaluate.request import TASKS, EvaluateRequest
from jobs.evaluate.results import Results, write_results
from jobs.evaluate.sets import Cut, EvalSet, find_sets, load_set, mixed
from jobs.evaluate.system import System
from jobs.evaluate.tasks import answer, length, noise, rate, reconstruct, retrieve, segments
from jobs.evaluate.work import Work
from model.default_codec import UNTRAINED
from model.refusal import Refusal
from model.weights import find_weights

RESULTS, BANKS = "results.json", "banks"
READER = answer.READER
MODULES = dict(zip(TASKS, (reconstruct, retrieve, answer, noise, length, segments, rate), strict=True))
READ = {"reconstruct", "answer"}  # the reader by itself has figures too, that others are compared with
ONE_OF = {"retrieve"}  # needs one of its abilities, where others need all
STORED = {"answer", "noise", "length", "segments"}  # of a codec: dense latents would say the same once more
ONE_ROW = {"length", "segments"}  # and so would refined ones


@dataclass(frozen=True, slots=True)
class EvaluateProgress:
    """`done` of `of` cells (a task of a system on a set); within the one at work, `made` of `wanted`."""

    cell: str
    done: int
    of: int
    verb: str = ""
    made: int = 0
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """One task, one set, and one system; None is the reader by itself."""

    task: str
    data: EvalSet
    system: System | None

    def __str__(self) -> str:
        return f"{self.task} {self.system.name if self.system else READER} on {self.data.name}"


@dataclass(slots=True)
class Evaluation:
    """One run: what it has at hand, and what it has found."""

    request: EvaluateRequest
    work: Work
    figures: Figures = field(default_factory=Figures)
    absent: list[dict] = field(default_factory=list)
    faults: list[dict] = field(default_factory=list)

    def lacks(self, task: str, system: str | None, name: str | None, metric: str | None, why: str) -> None:
        self.absent.append({"task": task, "system": system, "set": name, "metric": metric, "why": why})

    def fails(self, task: str | None, system: str | None, name: str | None, error: Exception | str) -> None:
        known = isinstance(error, Refusal | str)
        line = " ".join(str(error).split()) if known else f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.faults.append({"task": task, "system": system, "set": name, "error": line})

    def run(self, cell: Cell) -> None:
        """What fails is written down, and the next cell goes on. What was made until then is kept."""
        name = cell.system.name if cell.system else READER
        try:
            outcome = self._measure(cell)
        except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
            self.fails(cell.task, name, cell.data.name, error)
            return
        self.figures.add(cell.task, name, cell.data.name, outcome)
        for line in outcome.faults:
            self.fails(cell.task, name, cell.data.name, line)
        for metric, why in outcome.absent:
            self.lacks(cell.task, name, cell.data.name, metric, why)

    def _measure(self, cell: Cell) -> Outcome:
        module = MODULES[cell.task]
        if cell.system is None:
            return module.measure_reader(self.work, cell.data)
        return module.measure(self.work, cell.system, cell.data)


def run_evaluate(
    request: EvaluateRequest,
    *,
    on_progress: Callable[[EvaluateProgress], object] = lambda now: None,
    say: Callable[[str], object] = lambda line: None,
) -> Results:
    """All figures. Prints nothing. The same request with the same `out` goes on where it was.

    What a system cannot do stands in `absent`, what failed in `faults`, and the rest is there. Raises Refusal for an
    unknown task or system, and where there is no data.
    """
    began = time.monotonic()
    files = find_sets(request.data, request.sets)
    systems, broken = open_systems(request.systems, request.opening)
    out = None if request.out is None else Path(request.out).absolute()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with closing(Kept(None if out is None else out / FILE)) as kept, Session(say=say) as session:
        run = Evaluation(request, _work(request, systems, kept, out))
        for name, why in broken:
            run.fails(None, name, None, why)
        sets = list(_load(run, files, say))
        if request.actors:
            cluster, opening = session.start(), request.opening
            run.work.actors = Actors(request.actors, cluster, request.systems, opening, request.backbone)
        for place, cell in enumerate(cells := list(_cells(run, systems, sets))):
            tell = partial(EvaluateProgress, str(cell), place, len(cells))
            run.work.on_batch = lambda verb, made, of, tell=tell: on_progress(tell(verb, made, of))
            on_progress(tell())
            run.run(cell)
        results = _results(run, systems, sets, time.monotonic() - began)
    if out is not None:
        write_results(results, out / RESULTS)
        write_page(results, out / REPORT)
    return results


def _work(request: EvaluateRequest, systems: Sequence[System], kept: Kept, out: Path | None) -> Work:
    return Work(
        kept,
        partial(open_reader, request.backbone, request.opening.precision),
        cut=_cut(request, systems),
        prompt=request.prompt,
        judge=Judge(*request.judge, kept) if request.judge else None,
        banks=None if out is None else out / BANKS,
    )


def _cut(request: EvaluateRequest, systems: Sequence[System]) -> Cut:
    """To the tokens that were asked for, or to the smallest chunk of a codec among the systems: texts are the same."""
    most = min([request.tokens, *(int(str(s.about["chunk_tokens"])) for s in systems if "chunk_tokens" in s.about)])
    return Cut(find_weights(request.backbone).tokenizer(), most, request.min_tokens, request.text_column)


def _load(run: Evaluation, files: dict[str, list[Path]], say: Callable[[str], object]) -> Iterator[EvalSet]:
    """Every set that can be read, and a mix of them where a task asks for it."""
    request, sets = run.request, []
    for name, some in files.items():
        try:
            sets.append(load_set(name, some, run.work.cut, request.limit, seed=request.seed))
        except (Refusal, OSError) as error:
            run.fails(None, None, name, error)
            continue
        say(f"{name}: {_told(sets[-1])}")
        yield sets[-1]
    if not sets:
        raise Refusal("; ".join(fault["error"] for fault in run.faults if fault["set"]))
    if any(MODULES[task].MIXED for task in request.tasks):
        yield mixed(sets, request.limit)


def _told(data: EvalSet) -> str:
    sizes = [
        (len(data.texts), "texts"),
        (len(data.asked), "questions"),
        (len(data.queries), "queries"),
        (len(data.corpus), f"of {data.of_corpus:,} passages"),
    ]
    left = [f"{count:,} {why}" for why, count in data.left_out.items()]
    there = ", ".join(f"{count:,} {what}" for count, what in sizes if count) or "nothing to measure"
    return there + (f" (left out: {', '.join(left)})" if left else "")


def _cells(run: Evaluation, systems: Sequence[System], sets: Sequence[EvalSet]) -> Iterator[Cell]:
    """What is to be done, task by task: encodings that reconstruction makes serve the others."""
    for task in [name for name in TASKS if name in run.request.tasks]:
        module = MODULES[task]
        able = [system for system in systems if _is_able(run, task, system)]
        mine = [data for data in sets if (data.name == "mixed") == module.MIXED]
        for data in mine:
            if not getattr(data, module.HAS):
                run.lacks(task, None, data.name, None, f"{data.name} has no {WORDS[module.HAS]}")
                continue
            if task in READ and able:
                yield Cell(task, data, None)
            yield from (Cell(task, data, system) for system in able)


WORDS = {"texts": "texts", "asked": "questions with an answer and a text of one chunk", "queries": "queries and corpus"}


def _is_able(run: Evaluation, task: str, system: System) -> bool:
    needs = MODULES[task].NEEDS
    lacking = sorted(needs - system.can)
    if lacking and (task not in ONE_OF or lacking == sorted(needs)):
        run.lacks(task, system.name, None, None, f"{system.name} cannot {' or '.join(lacking)}")
        return False
    form = system.about.get("form", "nf4")  # what is no codec has one row
    if (task in STORED and form == "dense") or (task in ONE_ROW and form != "nf4"):
        run.lacks(task, system.name, None, None, f"{system.name} has latents of another row: see there")
        return False
    return True


def _is_main(system: System) -> bool:
    """The row that stands for a codec as a bank stores it."""
    return system.about.get("form") == "nf4"


def _results(run: Evaluation, systems: Sequence[System], sets: Sequence[EvalSet], seconds: float) -> Results:
    request, figures = run.request, run.figures
    main = sorted((s for s in systems if _is_main(s)), key=lambda s: s.name == UNTRAINED)
    first = (main or [*systems])[0].name if systems else ""
    how = {"draws": request.draws, "seed": request.seed}
    drawn = figures.drawn(**how)
    return Results(
        made=made_of(request, seconds),
        systems={system.name: _told_of(run, system) for system in systems},
        sets={data.name: data.sizes() for data in sets},
        items=figures.items,
        figures=drawn,
        differences=figures.differences(first, **how) + overall_differences(drawn, first, **how),
        overall=overall(drawn, **how),
        heats=figures.heats,
        samples=figures.chosen_samples(),
        absent=run.absent,
        faults=run.faults,
    )


def _told_of(run: Evaluation, system: System) -> dict:
    costs = run.work.costs.get(system.name)
    return {
        "kind": system.kind,
        "identity": system.identity,
        "can": sorted(system.can),
        "base": system.base.name if system.base else None,
        "about": system.about,
        "costs": (asdict(costs) if costs else {}) | run.work.sizes(system),
    }
