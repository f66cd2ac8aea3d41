"""report.html: one file that asks nothing of a network, made of results.json alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from jobs.evaluate.overall import SETS
from jobs.evaluate.report import drawings, tables
from jobs.evaluate.report.cases import answers, cases
from jobs.evaluate.report.drawings import Drawing
from jobs.evaluate.report.names import shortened
from jobs.evaluate.report.paper import WHOSE
from jobs.evaluate.report.short import in_short
from jobs.evaluate.report.tables import Table
from jobs.evaluate.results import Figure, Results

REPORT = "report.html"
ANSWERING = ("nats", "gap", "judge", "exact", "f1", "contains")
RECONSTRUCTION = ("f1", "rouge1", "rougeL", "bleu", "chrf", "edit", "whole", "names", "fidelity", "patch_bytes")
RETRIEVAL = ("hit@1", "hit@5", "hit@10", "recall@5", "recall@10", "mrr@5", "mrr@10", "ndcg@10")


@dataclass(frozen=True, slots=True)
class Section:
    """A task's part of the page. `folded`: tables that most readers pass over."""

    anchor: str
    heading: str
    lead: str
    drawings: Sequence[Drawing]
    tables: Sequence[Table]
    folded: Sequence[Table] = ()


def write_page(results: Results, path: Path) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page(results), encoding="utf-8")
    os.replace(partial, path)


def page(results: Results) -> str:
    """The page as HTML."""
    results = shortened(results)
    environment = Environment(
        loader=PackageLoader("jobs.evaluate.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        made=results.made,
        sets=results.sets,
        systems=results.systems,
        overview=tables.overview(results),
        paper=WHOSE,
        short=in_short(results),
        sections=[section for section in sections(results) if section.drawings or section.tables],
        cases=cases(results),
        answers=answers(results),
        costs=tables.costs(results),
        absent=lacking(results),
        faults=results.faults,
    )


def sections(results: Results) -> list[Section]:
    """All parts in the order of the page, also those without figures."""
    return [_reconstruction(results), *_retrieval(results), _answering(results), *_analyses(results)]


def lacking(results: Results) -> list[tuple[str, str]]:
    """What is absent, a reason once: (where, why)."""
    found: dict[tuple[str, str, str], tuple[dict, dict]] = {}
    for each in results.absent:
        sets, systems = found.setdefault((each["task"], each["metric"] or "", each["why"]), ({}, {}))
        sets[each["set"] or ""] = systems[each["system"] or ""] = None
    return [(_where(task, metric, list(sets), list(systems)), why)
            for (task, metric, why), (sets, systems) in found.items()]  # fmt: skip


def _where(task: str, metric: str, sets: list[str], systems: list[str]) -> str:
    where = ", ".join(filter(None, (task, *([f"{len(sets)} sets"] if len(sets) > 1 else sets), metric)))
    names = ", ".join(filter(None, systems))
    return f"{where} ({names})" if names else where


def _figures(results: Results) -> list[Figure]:
    return [*results.figures, *results.overall]


def _sets(results: Results) -> list[str]:
    """The columns of a table by sets."""
    return [SETS, *results.sets]


def _reconstruction(results: Results) -> Section:
    own = [f for f in _figures(results) if f.task == "reconstruct"]
    made = {metric: tables.by_set(own, metric=metric, caption=tables.NAMES[metric], sets=_sets(results))
            for metric in RECONSTRUCTION}  # fmt: skip
    present = {metric: table for metric, table in made.items() if table is not None}
    lead = (
        "What each memory alone gives back of a text: greedy, free-running, without a patch. F1 counts lower-cased "
        "words as a bag; whole is the share of texts that come back without one wrong token."
    )
    shown = [table for metric, table in present.items() if metric in ("f1", "whole")]
    folded = [table for metric, table in present.items() if metric not in ("f1", "whole")]
    gaps = [d for d in results.differences if d.task == "reconstruct"]
    if (paired := tables.against(gaps, metric="f1", sets=_sets(results))) is not None:
        shown.insert(1, paired)
    return Section("reconstruction", "Reconstruction", lead, drawings.reconstruction(results), shown, folded)


def _retrieval(results: Results) -> list[Section]:
    leads = {
        "question": ("Retrieval, in the question's own pool", "The paper's task: which of the question's own "
                     "references hold the answer. Pools are small, so these figures are high by their make."),
        "corpus": ("Retrieval, in the whole corpus", "Every passage of the set is a candidate. Not to be compared with "
                   "the figures above."),
    }  # fmt: skip
    found = []
    for pool, (heading, lead) in leads.items():
        own = [f for f in _figures(results) if f.task == "retrieve" and f.at.get("pool") == pool]
        made = [tables.by_set(own, metric=metric, caption=tables.NAMES[metric], sets=_sets(results))
                for metric in RETRIEVAL]  # fmt: skip
        present = [table for table in made if table is not None]
        main = [table for table in present if table.caption in ("Hit@5", "MRR@5", "nDCG@10")]
        rest = [table for table in present if table not in main]
        found.append(Section(f"retrieval-{pool}", heading, lead, drawings.retrieval(results, pool), main, rest))
    return found


def _answering(results: Results) -> Section:
    own = [f for f in _figures(results) if f.task == "answer"]
    lead = (
        "A reader is given the memory in the text's place. Nats per answer token, teacher-forced, tell most: a small "
        "reader answers badly even from the text. Gap closed is (nothing - x) / (nothing - text)."
    )

    def key(figure):
        return str(figure.at["from"]) if figure.system == "reader" else f"{figure.system}, {figure.at['from']}"

    def from_memory(figure):
        return figure.at["from"] in ("decoded", "latents") and results.systems[figure.system]["kind"] != "text"

    caption = "Means over sets; bold is the best of what memories alone give"
    table = tables.several(own, ANSWERING, key=key, rivals=from_memory, caption=caption) if own else None
    judged = [
        tables.by_set([f for f in own if f.at["from"] == source], metric="judge", sets=_sets(results),
                      caption=f"judge, from {source}") for source in ("text", "decoded", "latents")
    ]  # fmt: skip
    return Section("answering", "Answering", lead, drawings.answering(results), [table] if table else [],
                   [each for each in judged if each is not None])  # fmt: skip


def _analyses(results: Results) -> list[Section]:
    leads = {
        "length": ("Length", "One memory of a fixed size, texts of every length.", drawings.length),
        "noise": ("Noise", "How far latents may be wrong before the text goes.", drawings.noise),
        "segments": ("What holds what", "One sentence's names are swapped at a time; which latent moves?",
                     drawings.segments),
        "rate": ("Rate and distortion", "What a byte buys.", drawings.rate),
    }  # fmt: skip
    return [Section(anchor, heading, lead, draw(results), []) for anchor, (heading, lead, draw) in leads.items()]
