"""Segments: which latents move when the names and numbers of one sentence are exchanged.

If latent i holds the i-th part of the text, the latent that moves most is the one where the sentence stands.
Shapes: N texts, K latents, D hidden width.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.evaluate.outcome import Measured, Outcome
from jobs.evaluate.results import Heat
from jobs.evaluate.sets import Cut, EvalSet, Text
from jobs.evaluate.system import System
from jobs.evaluate.tasks.noise import without_latents
from jobs.evaluate.work import Work

NEEDS = frozenset({"encode", "decode"})
MIXED = True
HAS = "texts"
PASSAGES, SENTENCES = 30, 3  # texts that are taken, and sentences with a name or number that one must have
SENTENCE = re.compile(r"\S.*?(?:[.!?](?=\s)|$)", re.DOTALL)
NUMBER = re.compile(r"\b\d[\d,.]*\b")
NAME = re.compile(r"(?<=[a-z,;:’'\"”)] )[A-Z][\w’'-]*(?: [A-Z][\w’'-]*)*")  # not at a sentence's begin


@dataclass(frozen=True, slots=True)
class Swap:
    """A text with another's names and numbers in one sentence. `centre`: where that sentence stands, from 0 to 1."""

    id: str
    text: str
    changed: str
    centre: float


def measure(work: Work, system: System, data: EvalSet) -> Outcome:
    """Shares of swaps whose most moved latent is the expected one, or its neighbour; and the heat map."""
    swaps = swapped(data.texts, work.cut)
    if not swaps:
        return Outcome([], [], absent=[("segments", f"no text has {SENTENCES} sentences with names or numbers")])
    before = work.memories(system, [swap.text for swap in swaps])
    if why := without_latents(before):
        return Outcome([], [], absent=[("segments", f"{system.name} {why}")])
    after = work.memories(system, [swap.changed for swap in swaps])
    old_NKD, new_NKD = (np.stack([m.parts["latents"] for m in some]) for some in (before, after))
    deviation_D = old_NKD.reshape(-1, old_NKD.shape[-1]).std(axis=0)
    moved_NK = np.linalg.norm((new_NKD - old_NKD) / np.maximum(deviation_D, 1e-6), axis=-1)
    latents = moved_NK.shape[1]
    expected_N = np.array([min(latents - 1, int(swap.centre * latents)) for swap in swaps])
    away_N = np.abs(moved_NK.argmax(axis=1) - expected_N)
    within = {reach: (away_N <= reach).astype(float).tolist() for reach in (1, 2)}
    heat = _heat(system.name, data.name, moved_NK, expected_N, within)
    measured = [Measured(f"within{reach}", values) for reach, values in within.items()]
    return Outcome([swap.id for swap in swaps], measured, heats=[heat])


def swapped(texts: Sequence[Text], cut: Cut, *, seed: int = 0) -> list[Swap]:
    """One swap a sentence that has a name or a number, of the first PASSAGES texts with enough such sentences."""
    names = sorted({name for each in texts for name in NAME.findall(each.text)})
    found: list[Swap] = []
    taken = 0
    for each in texts:
        draw = random.Random(f"{seed} {each.text}")
        some = [swap for swap in _of_text(each, names, cut, draw) if swap.changed != each.text]
        if len(some) >= SENTENCES:
            found += some
            taken += 1
        if taken == PASSAGES:
            break
    return found


def _of_text(each: Text, names: Sequence[str], cut: Cut, draw: random.Random) -> list[Swap]:
    total = cut.count(each.text)
    swaps = []
    for place, found in enumerate(SENTENCE.finditer(each.text)):
        start, end = found.span()
        sentence = NAME.sub(lambda m: _another(m[0], names, each.text, draw), found[0])
        sentence = NUMBER.sub(lambda m: _other_digits(m[0], draw), sentence)
        changed = cut.first(each.text[:start] + sentence + each.text[end:])
        centre = (cut.count(each.text[:start]) + cut.count(each.text[:end])) / 2 / total
        swaps.append(Swap(f"{each.id}#{place}", each.text, changed, centre))
    return swaps


def _another(name: str, names: Sequence[str], text: str, draw: random.Random) -> str:
    """A name of another text, of as many words and about as long; the same one where there is none."""
    alike = [other for other in names if other.count(" ") == name.count(" ") and other not in text]
    near = sorted(alike, key=lambda other: abs(len(other) - len(name)))[:8]
    return draw.choice(near) if near else name


def _other_digits(number: str, draw: random.Random) -> str:
    """Each digit by another one; the first is not 0."""
    digits = [draw.choice([d for d in "123456789" if d != c]) if c.isdigit() else c for c in number]
    return "".join(digits)


def _heat(system: str, name: str, moved_NK: np.ndarray, expected_N: np.ndarray, within: dict[int, list[float]]) -> Heat:
    scaled_NK = moved_NK / np.maximum(moved_NK.max(axis=1, keepdims=True), 1e-12)
    rows: list[list[float] | None] = []
    swaps = []
    for latent in range(moved_NK.shape[1]):
        mine = scaled_NK[expected_N == latent]
        swaps.append(len(mine))
        mean_K = mine.mean(axis=0) if len(mine) else None
        rows.append(None if mean_K is None else [round(float(v), 4) for v in mean_K / max(mean_K.max(), 1e-12)])
    return Heat(system, name, rows, swaps, float(np.mean(within[1])), float(np.mean(within[2])))
