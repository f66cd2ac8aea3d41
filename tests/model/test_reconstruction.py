"""Words, names and numbers that come back, and what is guessed without latents."""

from __future__ import annotations

import numpy as np
import pytest

from model.reconstruction import guessed, names_and_numbers, word_f1


def test_f1_counts_words_as_a_bag_in_lower_case():
    assert word_f1("The cat sat", "sat the CAT") == 1.0
    assert word_f1("a b c d", "a b x y") == 0.5
    assert word_f1("a a b", "a b b") == pytest.approx(2 / 3)
    assert word_f1("one two", "") == 0.0
    assert word_f1("", " ") == 1.0


def test_names_and_numbers_are_counted_as_a_bag_too():
    assert names_and_numbers("Ida met Ida at 5", "ida saw Ida at 5") == pytest.approx(2 / 3)
    assert names_and_numbers("the sea", "the Sea") is None


def test_a_text_s_own_guess_is_what_greedy_decoding_would_say(llama):
    """Positions that the model's own argmax names are right, and a chunk beside it changes nothing."""
    rng = np.random.default_rng(0)
    chunks = [rng.integers(3, llama.vocab_size, n).astype(np.int32) for n in (30, 12)]
    both = guessed(llama, chunks)
    assert [guessed(llama, [chunk])[0] for chunk in chunks] == both
    import torch

    ids = torch.tensor([[llama.end_token, *chunks[0].tolist()]])
    with torch.inference_mode():
        best = llama.model(ids).logits[0, :-1].argmax(-1).numpy()
    assert both[0] == pytest.approx((best == chunks[0]).mean())
