"""Refined latents need smaller patches, never larger ones, and recall stays exact. The decoder knows its few texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memories import assert_exact, random_chunks, stored
from overfitted import text_chunks

from model.config import RefineConfig
from model.patch import NOTHING

NOISE = 3.0  # deviations of a channel: the latents then carry little of their texts


@pytest.fixture(scope="module")
def chunks(trained):
    return text_chunks(trained.backbone)


@pytest.fixture(scope="module")
def start(trained, chunks):
    """Of the eight texts, spoiled: patches take most of each chunk."""
    made_BKD = trained.encode(*trained.pad(chunks)).clone()
    noise_BKD = torch.randn(made_BKD.shape, generator=torch.Generator().manual_seed(0))
    return made_BKD + NOISE * trained.statistics.deviation_D * noise_BKD


def patches(codec, latents_BKD, chunks, refined=None):
    return [memory.patch for memory in codec.keep(latents_BKD, chunks, refined=refined)]


def total(found):
    return sum(len(patch) for patch in found)


def test_more_steps_never_cost_a_chunk_bytes_and_save_most_of_them(trained, chunks, start):
    before = patches(trained, start, chunks)
    after = patches(trained, start, chunks, trained.refine(start, chunks, RefineConfig(12)))
    assert all(len(new) <= len(old) for old, new in zip(before, after, strict=True))
    assert total(after) < total(before) / 3


def test_the_best_latents_are_kept_where_the_last_are_worse(trained, chunks, start, monkeypatch):
    """At a rate that throws latents far off, the best that was seen is at least as good as where it began."""
    monkeypatch.setattr("model.refine.RATE", 50.0)
    before = patches(trained, start, chunks)
    refined = trained.refine(start, chunks, RefineConfig(3))
    after = patches(trained, start, chunks, refined)
    assert {each.steps for each in refined.refinings} == {3}
    assert all(len(new) <= len(old) for old, new in zip(before, after, strict=True))


def test_what_was_before_is_what_verifying_says_of_the_encoder_s_latents(trained, chunks, start):
    refined = trained.refine(start, chunks, RefineConfig(1))
    memories = trained.keep(start, chunks)
    assert [each.patch_bytes_before for each in refined.refinings] == [len(memory.patch) for memory in memories]
    assert [each.fidelity_before for each in refined.refinings] == [memory.fidelity for memory in memories]


def test_a_chunk_that_is_right_takes_no_step_and_keeps_the_encoder_s_latents(trained, chunks):
    made_BKD = trained.encode(*trained.pad(chunks)).clone()
    assert set(patches(trained, made_BKD, chunks)) == {NOTHING}
    refined = trained.refine(made_BKD, chunks, RefineConfig(12))
    assert [each.steps for each in refined.refinings] == [0] * len(chunks)
    assert torch.equal(refined.latents_BKD, made_BKD.float())


def test_a_chunk_stops_once_it_is_right_and_the_others_go_on(trained, chunks, start):
    refined = trained.refine(start, chunks, RefineConfig(40))
    ended = patches(trained, start, chunks, refined)
    steps = [each.steps for each in refined.refinings]
    assert len(set(steps)) > 2 and max(steps) <= 40
    assert all(patch == NOTHING for patch, taken in zip(ended, steps, strict=True) if taken < 40)


def test_the_batch_size_changes_no_chunk_s_steps(trained, chunks, start):
    few, many = (trained.refine(start, chunks, RefineConfig(6, size)) for size in (3, 8))
    assert [each.steps for each in few.refinings] == [each.steps for each in many.refinings]
    assert torch.allclose(few.latents_BKD, many.latents_BKD, atol=1e-2)


def test_refined_latents_end_where_their_text_ends(trained, chunks, start):
    """This decoder was never trained to end, and most chunks stop once they need no patch: two end all the same."""
    stored = trained.dequantise(*trained.quantise(trained.refine(start, chunks, RefineConfig(40)).latents_BKD))
    ended = [trained.until_end(draft) for draft in trained.draft(stored, [len(ids) + 4 for ids in chunks])]
    whole = [np.array_equal(ids, draft) for ids, draft in zip(chunks, ended, strict=True)]
    assert sum(whole) >= 2


def test_recall_of_refined_latents_is_exact(trained, chunks, start):
    memories = trained.keep(start, chunks, refined=trained.refine(start, chunks, RefineConfig(6)))
    rows = [stored(memory, chunk) for memory, chunk in zip(memories, chunks, strict=True)]
    for size in (8, 3, 1):
        assert_exact(trained, rows, chunks, size)


def test_the_embedding_stays_the_encoder_s(trained, chunks, start):
    plain = trained.keep(start, chunks)
    refined = trained.keep(start, chunks, refined=trained.refine(start, chunks, RefineConfig(2)))
    for one, other in zip(plain, refined, strict=True):
        assert np.array_equal(one.embedding_E, other.embedding_E)


def test_random_bytes_stop_at_the_cap_and_their_patch_is_no_larger(trained):
    noise = random_chunks(trained, [40, 40])
    start = trained.encode(*trained.pad(noise)).clone()
    refined = trained.refine(start, noise, RefineConfig(3))
    assert [(each.steps, each.finite) for each in refined.refinings] == [(3, True)] * 2
    for old, new in zip(patches(trained, start, noise), patches(trained, start, noise, refined), strict=True):
        assert len(new) <= len(old)


def test_nan_in_one_chunk_keeps_its_latents_as_they_were_and_leaves_the_others_alone(trained, chunks, start):
    spoiled_BKD = start.clone()
    spoiled_BKD[2] = float("nan")
    refined = trained.refine(spoiled_BKD, chunks, RefineConfig(4))
    assert [each.finite for each in refined.refinings] == [i != 2 for i in range(len(chunks))]
    assert refined.refinings[2].steps == 0
    others = [i for i in range(len(chunks)) if i != 2]
    alone = trained.refine(start, chunks, RefineConfig(4))
    assert torch.allclose(refined.latents_BKD[others], alone.latents_BKD[others], atol=1e-2)


def test_latents_that_become_nan_on_the_way_are_dropped(trained, chunks, start, monkeypatch):
    monkeypatch.setattr("model.refine.RATE", float("inf"))
    refined = trained.refine(start, chunks, RefineConfig(4))
    assert not any(each.finite for each in refined.refinings)
    assert torch.equal(refined.latents_BKD, start.float())


def test_refining_nothing_is_refused():
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        RefineConfig(0)
