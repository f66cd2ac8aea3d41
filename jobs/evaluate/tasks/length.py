"""Length: how much of a text comes back as it grows, at the same number of latents.

Long texts are texts of one set after another, cut to each length, so that the shorter is the beginning of the longer.
"""

from __future__ import annotations

from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.sets import Cut, EvalSet, Text
from jobs.evaluate.system import System
from jobs.evaluate.tasks.noise import drafted
from jobs.evaluate.work import Work

NEEDS = frozenset({"encode", "decode", "encode long"})
MIXED = True
HAS = "texts"
LENGTHS = (16, 32, 64, 128, 192, 256, 384, 512)  # tokens


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    cut = work.cut
    long = joined(data, cut, LENGTHS[-1])
    measured: list[Measured] = []
    for tokens in LENGTHS:
        texts = [cut.first(each.text, tokens) for each in long]
        drafts = work.drafts(system, work.memories(system, texts), texts)
        measured += drafted(texts, drafts, {"tokens": tokens})
    absent = [] if long else [("length", f"the texts together are shorter than {LENGTHS[-1]} tokens")]
    return Outcome([each.id for each in long], measured, absent=absent)


def joined(data: EvalSet, cut: Cut, tokens: int) -> list[Text]:
    """Texts of at least so many tokens: those of one set joined in their order, none of them twice."""
    of_set: dict[str, list[Text]] = {}
    for each in data.texts:
        of_set.setdefault(each.id.partition("/")[0], []).append(each)
    found = []
    for texts in of_set.values():
        held: list[Text] = []
        for each in texts:
            held.append(each)
            text = "\n".join(one.text for one in held)
            if cut.count(text) >= tokens:
                found.append(Text("+".join(one.id for one in held), text))
                held = []
    return found
