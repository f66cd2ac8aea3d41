"""Swaps of names and numbers, and the heat map of a system whose latents do hold the text piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from harbour import PASSAGES

from jobs.evaluate.kept import Kept
from jobs.evaluate.sets import Cut, EvalSet, Text
from jobs.evaluate.system import Memory
from jobs.evaluate.tasks.segments import measure, swapped
from jobs.evaluate.work import Work
from model.weights import find_weights

TEXTS = tuple(Text(f"t{i}", text) for i, (_, text, _, _) in enumerate(PASSAGES))


@pytest.fixture(scope="module")
def cut():
    return Cut(find_weights("tiny-llama").tokenizer(), tokens=300)


class Pieces:
    """Latent i is the mean of the bytes of the i-th of twelve pieces of the text, in four fixed directions."""

    name, identity, kind, base, batch = "pieces", "pieces", "pieces", None, 64
    can = frozenset({"encode", "decode"})

    def encode(self, texts, before=None):
        directions = np.random.default_rng(0).standard_normal((256, 4)).astype(np.float32)
        made = []
        for text in texts:
            pieces = np.array_split(np.frombuffer(text.encode(), dtype=np.uint8), 12)
            made.append(Memory({"latents": np.stack([directions[p].mean(axis=0) for p in pieces])}, len(text), 1))
        return made


def test_a_swap_changes_names_and_numbers_of_one_sentence_alone(cut):
    swaps = swapped(TEXTS, cut)
    first = [swap for swap in swaps if swap.id.startswith("t0#")]
    assert len(first) == 3
    for swap in first:
        ours, theirs = swap.text.split(". "), swap.changed.split(". ")
        place = int(swap.id.partition("#")[2])
        assert [a == b for a, b in zip(ours, theirs, strict=True)] == [i != place for i in range(3)]
    assert "5:40" not in first[0].changed and "The ferry" in first[0].changed
    assert [swap.centre for swap in first] == sorted(swap.centre for swap in first)


def test_the_same_texts_give_the_same_swaps(cut):
    assert swapped(TEXTS, cut) == swapped(TEXTS, cut) != swapped(TEXTS, cut, seed=1)


def test_latents_that_hold_the_text_piece_by_piece_show_a_diagonal(cut):
    outcome = measure(Work(Kept(None), lambda: None, cut=cut), Pieces(), EvalSet("mixed", texts=TEXTS))
    (heat,) = outcome.heats
    values = {each.metric: np.mean(each.values) for each in outcome.measured}
    assert heat.within1 == values["within1"] > 0.6 and heat.within2 == values["within2"] > 0.9
    there = [(i, int(np.argmax(row))) for i, row in enumerate(heat.rows) if row is not None]
    assert len(there) >= 6 and all(abs(i - j) <= 2 for i, j in there)
    assert sum(heat.swaps) == len(outcome.ids)


def test_texts_without_names_have_no_swaps(cut):
    data = EvalSet("mixed", texts=(Text("a", "the sea is calm. the sky is grey. nobody sails."),))
    outcome = measure(Work(Kept(None), lambda: None, cut=cut), Pieces(), data)
    assert outcome.measured == [] and "3 sentences" in outcome.absent[0][1]
