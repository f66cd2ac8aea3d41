"""Metrics are those of the libraries, and those that can be counted by hand."""

from __future__ import annotations

import pytest
from harbour import PASSAGES

from jobs.evaluate.metrics import absent_meteor, compared

TEXTS = [text for _, text, _, _ in PASSAGES]


@pytest.mark.parametrize("place", range(0, 24, 5))
def test_metrics_are_the_libraries_own(place):
    from rapidfuzz.distance import Levenshtein
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import sentence_bleu, sentence_chrf

    text, drafted = TEXTS[place], TEXTS[place][:60] + TEXTS[place - 1][40:]
    found = compared(text, drafted)
    rouge = RougeScorer(["rouge1", "rougeL"]).score(text, drafted)
    assert found["rouge1"] == pytest.approx(rouge["rouge1"].fmeasure, abs=1e-6)
    assert found["rougeL"] == pytest.approx(rouge["rougeL"].fmeasure, abs=1e-6)
    assert found["bleu"] == pytest.approx(sentence_bleu(drafted, [text]).score / 100, abs=1e-6)
    assert found["chrf"] == pytest.approx(sentence_chrf(drafted, [text]).score / 100, abs=1e-6)
    assert found["edit"] == pytest.approx(
        1 - Levenshtein.distance(text, drafted) / max(len(text), len(drafted)), abs=1e-6
    )
    assert 0 < found["f1"] < 1 and found["whole"] == 0.0


def test_metrics_counted_by_hand():
    found = compared("Ida Brask sails at 5 in May", "ida Brask sails at 6 in May")
    assert found["f1"] == pytest.approx(6 / 7) and found["rouge1"] == pytest.approx(6 / 7)
    assert found["names"] == pytest.approx(2 / 4)  # of Ida, Brask, 5, May the draft has Brask and May
    assert found["edit"] == pytest.approx(1 - 2 / 27)  # two of 27 characters
    assert found["rougeL"] == pytest.approx(6 / 7)


def test_order_counts_for_rouge_l_and_not_for_f1():
    found = compared("a b c d", "d c b a")
    assert found["f1"] == found["rouge1"] == 1.0 and found["rougeL"] == 0.25


def test_a_whole_text_has_every_metric_at_one():
    assert {name: value for name, value in compared(TEXTS[0], TEXTS[0]).items() if value != pytest.approx(1)} == {}


def test_an_empty_draft_scores_nothing_and_a_text_without_names_has_no_share_of_them():
    found = compared("the sea is calm", "")
    assert found.pop("names") is None
    assert set(found.values()) == {0.0}


def test_a_metric_whose_data_is_not_there_says_what_it_needs():
    why = absent_meteor()
    assert ("meteor" in compared("a", "a")) == (why is None)
    assert why is None or "nltk" in why
