"""Questions that a passage answers, made of the passage itself: nobody else's questions are needed.

Some are templates over a sentence that says when, where, what or by whom. The rest take a name or a number out of a
sentence and ask for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
SUBJECT = r"(?P<subject>(?:The |the )?[A-Z][\w'’.-]*(?: [\w'’&-]+){0,6}?)(?: \([^()]*\))?"
DATE = rf"(?P<answer>(?:\d{{1,2}} (?:{MONTHS}) |(?:{MONTHS}) (?:\d{{1,2}}, )?)?\d{{4}})"
MADE = "founded|established|released|published|built|opened|formed|created|introduced|completed|discovered|launched"
BY = "directed|written|produced|founded|designed|discovered|composed|built|created|published|recorded"
STANDS = "(?:located|situated|based|held)"
PLACE = r"(?P<answer>[A-Z][\w'’-]+(?:,? (?:of |the )?[A-Z][\w'’-]+)*)"
NAME = r"(?P<answer>[A-Z][\w'’.-]*[\w](?: (?:of |the |de |van |von )?[A-Z][\w'’-]+)*)"
KIND = r"(?P<answer>(?:[\w'’-]+ ){0,4}[a-z][\w'’-]+)(?= (?:in|of|from|at|by|for|that|which|who|located|based)\b|[.,;])"
TEMPLATES = (
    (rf"{SUBJECT} was born (?:on|in) {DATE}", "When was {subject} born?"),
    (rf"{SUBJECT} died (?:on|in) {DATE}", "When did {subject} die?"),
    (rf"{SUBJECT} (?:was|were) (?P<verb>{MADE}) (?:on|in) {DATE}", "When was {subject} {verb}?"),
    (rf"{SUBJECT} (?:was|were) (?P<verb>{BY}) by {NAME}", "By whom was {subject} {verb}?"),
    (rf"{SUBJECT} (?:is|was) (?:[\w ,'’-]+ )?{STANDS} (?:in|at|near) {PLACE}", "Where is {subject}?"),
    (rf"{SUBJECT} (?:is|was|are|were) an? {KIND}", "What is {subject}?"),
)  # fmt: skip
CLOZE = "Which {what} is missing? {sentence}"
BLANK = "___"
LONGEST = 40  # letters of an answer
_TEMPLATES = tuple((re.compile(pattern), question) for pattern, question in TEMPLATES)
_NUMBER = re.compile(r"(?<![\w.,-])\d[\d,.]*\d|(?<![\w.,-])\d(?![\w])")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]+(?: (?:of |the |de |van |von )?[A-Z][\w'’-]+)*")
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])|\n+")
_PRONOUNS = frozenset(("He", "She", "It", "They", "This", "There", "We", "I", "You", "These", "That", "The"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the words of the passage that answer it."""

    question: str
    answer: str


def questions_of(text: str, random: np.random.Generator) -> list[Asked]:
    """At most two: one of a template where one fits, and one whose name or number is taken out. Drawn by `random`."""
    sentences = [piece.strip() for piece in _END.split(text) if len(piece.split()) >= 5]
    templated = [asked for sentence in sentences for asked in _templated(sentence)]
    blanked = [asked for sentence in sentences for asked in _blanked(sentence)]
    return [each[int(random.integers(len(each)))] for each in (templated, blanked) if each]


def _templated(sentence: str) -> list[Asked]:
    found = []
    for pattern, question in _TEMPLATES:
        match = pattern.match(sentence)
        if match and match["subject"] not in _PRONOUNS and len(match["answer"]) <= LONGEST:
            found.append(Asked(question.format(**match.groupdict()), match["answer"]))
    return found


def _blanked(sentence: str) -> list[Asked]:
    found = []
    for what, pattern in (("number", _NUMBER), ("name", _NAME)):
        for match in pattern.finditer(sentence):
            answer = match[0]
            if sentence.count(answer) == 1 and len(answer) <= LONGEST:
                blank = sentence[: match.start()] + BLANK + sentence[match.end() :]
                found.append(Asked(CLOZE.format(what=what, sentence=blank), answer))
    return found
