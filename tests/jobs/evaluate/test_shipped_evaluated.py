"""The codec that ships, evaluated on a few passages: figures that hold of any sound codec and reader."""

from __future__ import annotations

import pytest

import nextmem

pytestmark = pytest.mark.backbone


@pytest.fixture(scope="module")
def figures(harbour_folder):
    found = nextmem.evaluate(
        ["default", "minilm"],
        data=harbour_folder,
        tasks=["reconstruct", "retrieve", "answer"],
        limit=6,
        draws=200,
        min_tokens=16,
    )
    assert found.faults == []
    return {(f.system, f.metric, *f.at.values()): f.value for f in found.figures}


def test_its_latents_give_words_back_and_its_fidelity_is_above_a_guess(figures):
    assert figures["default", "f1"] > 0.3
    assert figures["default", "fidelity"] > figures["reader", "fidelity"] + 0.05
    assert abs(figures["default", "f1"] - figures["default dense", "f1"]) < 0.15


def test_the_reader_is_less_surprised_by_an_answer_that_it_has_read(figures):
    assert figures["reader", "nats", "text"] < figures["reader", "nats", "nothing"] - 0.5
    assert figures["default", "gap", "recalled"] == pytest.approx(1, abs=0.02)
    assert figures["default", "gap", "recalled"] > figures["default", "gap", "decoded"]


def test_minilm_finds_passages_by_questions(figures):
    assert figures["minilm", "hit@5", "corpus"] > 0.8
