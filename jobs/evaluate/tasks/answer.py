"""Answering: what a reader makes of a question that has the text, or a memory in its place, or nothing.

The main figure is nats per answer token, teacher-forced: a small reader answers badly even from the text, and still it
is surprised less by the right answer where it has read it. `gap` is the share of the way from nothing to the text.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from jobs.evaluate.judge import Judge
from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.reader import Prompt
from jobs.evaluate.results import Sample
from jobs.evaluate.sets import Asked, EvalSet
from jobs.evaluate.system import Answer, Question, System
from jobs.evaluate.work import Work
from model.refusal import Refusal, Unreachable

NEEDS = frozenset({"encode"})
MIXED = False
HAS = "asked"
READER = "reader"  # whom `text` and `nothing` belong to


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    """From what the system's memories give: recalled and decoded text, latents, the latents of another text."""
    texts = [each.text for each in data.asked]
    questions = _questions(data.asked, work.prompt)
    memories = work.memories(system, texts)
    said: dict[str, list[Answer]] = {}
    if "recall" in system.can:
        said["recalled"] = work.read(work.recalled(system, memories, texts), questions)
    if "decode" in system.can:
        said["decoded"] = work.read(work.drafts(system, memories, texts), questions)
    if "answer" in system.can:
        said["latents"] = work.answers(system, memories, questions, texts)
        others = [*range(1, len(texts)), 0]
        foreign = [memories[i] for i in others]
        said["foreign"] = work.answers(system, foreign, questions, [texts[i] for i in others])
    return _outcome(system.name, data, said, work.judge)


def measure_reader(work: Work, data: EvalSet) -> Outcome:
    """From the text itself, and from nothing: what every system is measured between."""
    questions = _questions(data.asked, work.prompt)
    said = {
        "text": work.read([each.text for each in data.asked], questions),
        "nothing": work.read([""] * len(data.asked), questions),
    }
    return _outcome(READER, data, said, work.judge)


def _questions(asked: Sequence[Asked], prompt: Prompt) -> list[Question]:
    return [prompt.ask(each.question, each.answers[0]) for each in asked]


def _outcome(name: str, data: EvalSet, said: dict[str, list[Answer]], judge: Judge | None) -> Outcome:
    measured: list[Measured] = []
    samples: list[Sample] = []
    for source, answers in said.items():
        at: dict[str, object] = {"from": source}
        measured.append(Measured("nats", [answer.nats / answer.tokens for answer in answers], at))
        for metric, score in SCORES.items():
            values = [
                max(score(reference, answer.text) for reference in each.answers)
                for each, answer in zip(data.asked, answers, strict=True)
            ]
            measured.append(Measured(metric, values, at))
            if metric == "f1":
                samples += [
                    Sample("answer", name, data.name, each.id, each.answers[0], answer.text, f1, each.question, at)
                    for each, answer, f1 in zip(data.asked, answers, values, strict=True)
                ]
    verdicts, faults = ([], []) if judge is None else _judged(judge, data.asked, said)
    return Outcome([each.id for each in data.asked], [*measured, *verdicts], samples, faults=faults)


def _judged(judge: Judge, asked: Sequence[Asked], said: dict[str, list[Answer]]) -> tuple[list[Measured], list[str]]:
    """Verdicts on all answers, and why there are no more: a judge that fails takes no other figure with it."""
    measured: list[Measured] = []
    for source, answers in said.items():
        try:
            verdicts = [judge.right(e.question, e.answers, a.text) for e, a in zip(asked, answers, strict=True)]
        except (Unreachable, Refusal) as error:
            return measured, [str(error)]
        measured.append(Measured("judge", [float(verdict) for verdict in verdicts], {"from": source}))
    return measured, []


def exact_match(reference: str, said: str) -> float:
    return float(_plain(reference) == _plain(said))


def answer_f1(reference: str, said: str) -> float:
    """Words in common, as SQuAD counts them: without case, punctuation and articles."""
    wanted, found = Counter(_plain(reference).split()), Counter(_plain(said).split())
    if not wanted or not found:
        return float(wanted == found)
    return 2 * (wanted & found).total() / (wanted.total() + found.total())


def contains(reference: str, said: str) -> float:
    """Whether the reference stands in what was said, as whole words."""
    wanted = _plain(reference)
    return float(bool(wanted) and f" {wanted} " in f" {_plain(said)} ")


SCORES = {"exact": exact_match, "f1": answer_f1, "contains": contains}
_NO_MARKS = str.maketrans("", "", string.punctuation)


def _plain(text: str) -> str:
    without_marks = text.lower().translate(_NO_MARKS)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", without_marks).split())
