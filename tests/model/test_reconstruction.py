"""What the latents alone give back, measured."""

from __future__ import annotations

import numpy as np
import pytest
from memories import random_chunks
from overfitted import text_chunks

from model.reconstruction import reconstruct, word_f1
from model.untrained import untrained_codec


@pytest.fixture
def known(trained):
    """The chunks that the trained codec's decoder has learned."""
    return text_chunks(trained.backbone)


@pytest.fixture(scope="module")
def untrained(llama):
    return untrained_codec(llama)


def test_f1_counts_words_as_a_bag_in_lower_case():
    assert word_f1("The cat sat", "sat the CAT") == 1.0
    assert word_f1("a b c d", "a b x y") == 0.5
    assert word_f1("a a b", "a b b") == pytest.approx(2 / 3)
    assert word_f1("one two", "") == 0.0
    assert word_f1("", " ") == 1.0


def test_latents_that_carry_their_text_give_it_back(trained, known):
    found = reconstruct(trained, known)
    assert found.chunks == len(known) and found.tokens == sum(map(len, known))
    assert found.fidelity > 0.9 > found.plain
    assert found.nf4.f1 > 0.5 and found.forced < 0.1 and found.raw == 0.0


def test_a_draft_that_runs_on_past_its_text_is_not_whole(trained, known):
    """The decoder has never learned an end: most positions are right, and nothing after them stops it."""
    found = reconstruct(trained, known)
    latents_BKD = trained.encode(*trained.pad(known))
    drafts = trained.draft(latents_BKD, [len(chunk) for chunk in known])
    cut = [np.array_equal(draft[: len(chunk)], chunk) for draft, chunk in zip(drafts, known, strict=True)]
    assert any(cut) and found.dense.whole == found.nf4.whole == 0.0
    assert found.nf4.tokens > 0.5


def test_a_draft_ends_where_the_decoder_ends_it(trained, known, monkeypatch):
    """An end is a token like any other: here one that the decoder writes in the midst of its first text."""
    latents_BKD = trained.encode(*trained.pad(known[:1]))
    end = next(n for n in range(8, len(known[0])) if known[0][n] not in known[0][:n])
    monkeypatch.setattr(trained.backbone.model.config, "eos_token_id", int(known[0][end]))
    (draft,) = trained.draft(latents_BKD, [len(known[0])])
    assert np.array_equal(draft, known[0][:end])


def test_latents_that_carry_nothing_give_nothing_back(untrained):
    found = reconstruct(untrained, random_chunks(untrained, [16, 9, 16]))
    assert found.nf4.whole == found.dense.whole == 0.0
    assert found.raw == found.forced == 1.0
    assert found.patch_bytes >= 9


def test_a_set_without_chunks_is_refused(untrained):
    with pytest.raises(ValueError, match="there are no chunks"):
        reconstruct(untrained, [])


def test_the_order_of_chunks_changes_nothing(trained, known):
    there, back = (reconstruct(trained, chunks) for chunks in (known, known[::-1]))
    assert there.nf4.f1 == pytest.approx(back.nf4.f1) and there.patch_bytes == back.patch_bytes
    assert there.fidelity == pytest.approx(back.fidelity, abs=1e-6)
    assert isinstance(there.nf4.whole, float) and np.isfinite(there.plain)
