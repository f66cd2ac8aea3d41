"""Reconstruction: what comes back of a text from its memory alone, decoded greedily and free-running.

A draft may run 8 tokens past its text: one cut at the true length would pass for a text that ends there.
"""

from __future__ import annotations

from jobs.evaluate.metrics import ABSENT_BERTSCORE, absent_meteor, compared
from jobs.evaluate.outcome import Measured, Outcome, columns
from jobs.evaluate.results import Sample
from jobs.evaluate.sets import EvalSet
from jobs.evaluate.system import System
from jobs.evaluate.work import Work

NEEDS = frozenset({"encode", "decode"})
MIXED = False  # each set by itself
HAS = "texts"  # what a set must have


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    """Every metric of jobs/evaluate/metrics.py, fidelity and patch where the system has them, and all samples."""
    texts = [each.text for each in data.texts]
    memories = work.memories(system, texts)
    drafts = work.drafts(system, memories, texts)
    scores = [compared(text, draft) for text, draft in zip(texts, drafts, strict=True)]
    measured = columns(scores)
    for name in ("fidelity", "patch_bytes"):
        values = [getattr(memory, name) for memory in memories]
        if any(value is not None for value in values):
            measured.append(Measured(name, values))
    samples = [
        Sample("reconstruct", system.name, data.name, each.id, each.text, draft, score["f1"])
        for each, draft, score in zip(data.texts, drafts, scores, strict=True)
    ]
    absent = [("bertscore", ABSENT_BERTSCORE)]
    if why := absent_meteor():
        absent.append(("meteor", why))
    faults = [] if any(drafts) else [f"{system.name} decodes nothing of {data.name}: every draft is empty"]
    return Outcome([each.id for each in data.texts], measured, samples, absent=absent, faults=faults)


def measure_reader(work: Work, data: EvalSet) -> Outcome:
    """What the backbone guesses of each text without a memory: fidelity that no latent has earned."""
    shares = work.guessed([each.text for each in data.texts])
    return Outcome([each.id for each in data.texts], [Measured("fidelity", list(shares))])
