"""Exact recall where the latents decide: a codec whose decoder has learned eight chunks by heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from memories import assert_exact, memorise, stored
from overfitted import text_chunks

import model.codec
from model.codec import ROOM, Codec
from model.latents import encode_latents
from model.mend import ROUNDS, WIDTH
from model.patch import FORCED, Patch

NOTHING = Patch(FORCED, np.empty(0, np.int64), np.empty(0, np.int64))


@pytest.fixture(scope="module")
def chunks(trained) -> list[np.ndarray]:
    return text_chunks(trained.backbone)


@pytest.fixture(scope="module")
def rows(trained, chunks):
    return memorise(trained, chunks, len(chunks))


def test_a_trained_codec_has_small_patches(trained, chunks):
    memories = trained.memorise(chunks)
    forced = [len(trained.patches.unpack(memory.patch).positions) for memory in memories]
    assert sum(forced) <= 0.1 * sum(map(len, chunks))
    assert min(memory.fidelity for memory in memories) > 0.9


def test_verifying_reads_what_recall_will_read(trained, chunks, monkeypatch):
    """The dequantised latents: were 4 bits to lose everything, the patch would know."""
    real = trained.dequantise
    monkeypatch.setattr(trained, "dequantise", lambda codes, scales: torch.zeros_like(real(codes, scales)))
    memories = trained.memorise(chunks[:2])
    assert max(memory.fidelity for memory in memories) < 0.5
    assert_exact(trained, [stored(m, c) for m, c in zip(memories, chunks[:2], strict=True)], chunks[:2], 2)


@pytest.mark.parametrize("size", [1, 3])
def test_what_one_batch_size_memorised_every_other_recalls(trained, chunks, rows, size):
    assert_exact(trained, rows[:4], chunks[:4], size)
    assert_exact(trained, memorise(trained, chunks, size), chunks, 8)


def test_recall_is_exact_with_another_number_of_threads(trained, chunks, rows):
    torch.set_num_threads(2)
    try:
        assert_exact(trained, rows[:1], chunks[:1], 1)
    finally:
        torch.set_num_threads(1)


def test_carried_is_what_the_patch_leaves_to_the_latents(trained, chunks, rows):
    for recollection, row, chunk in zip(trained.recall(rows), rows, chunks, strict=True):
        forced = len(trained.patches.unpack(row.patch).positions)
        assert recollection.carried == 1 - forced / len(chunk) >= 0.8


def test_recall_keeps_the_order_of_its_rows(trained, chunks, rows):
    order = [5, 0, 7, 3]
    for place, recollection in zip(order, trained.recall([rows[i] for i in order]), strict=True):
        assert np.array_equal(recollection.token_ids, chunks[place])


def test_zeroed_latents_are_never_recalled(trained, chunks, rows):
    nothing = [replace(row, codes=bytes(len(row.codes)), scales=bytes(len(row.scales))) for row in rows]
    for recollection, chunk in zip(trained.recall(nothing), chunks, strict=True):
        assert not recollection.exact
        assert (recollection.token_ids == chunk).mean() < 0.5


def test_swapped_latents_tell_the_other_text(trained, chunks, rows):
    """So it is the latents, not the decoder's memory of an order, that carry the text."""
    swapped = [
        replace(row, codes=other.codes, scales=other.scales, patch=trained.patches.pack(NOTHING))
        for row, other in zip(rows, [*rows[1:], rows[0]], strict=True)
    ]
    for recollection, other in zip(trained.recall(swapped), [*chunks[1:], chunks[0]], strict=True):
        length = min(len(recollection.token_ids), len(other))
        assert not recollection.exact
        assert (recollection.token_ids[:length] == other[:length]).mean() > 0.9


def test_flipped_code_bytes_give_the_exact_text_or_say_that_they_do_not(trained, chunks, rows):
    rng, refused = np.random.default_rng(0), 0
    for share in (0.02, 0.2, 1.0):
        damaged = []
        for row in rows:
            codes = np.frombuffer(row.codes, dtype=np.uint8).copy()
            codes[rng.random(len(codes)) < share] ^= 0xFF
            damaged.append(replace(row, codes=codes.tobytes()))
        for recollection, chunk in zip(trained.recall(damaged), chunks, strict=True):
            assert recollection.exact == np.array_equal(recollection.token_ids, chunk)
            refused += not recollection.exact
    assert refused >= len(rows)  # at the largest share at least, the text is lost


def test_a_patch_of_another_row_is_refused_or_harmless(trained, chunks, rows):
    mixed = [replace(row, patch=trained.patches.pack(Patch(FORCED, np.array([4]), np.array([9])))) for row in rows]
    for recollection in trained.recall(mixed):
        assert not recollection.exact and recollection.token_ids[4] == 9


def draft_by(monkeypatch, draft) -> None:
    """In place of both ways of drafting: a batch, and a row alone."""

    def alone(backbone, prefix_SD, forced_L):
        return draft(backbone, prefix_SD[None], torch.from_numpy(forced_L)[None])[0].numpy()

    monkeypatch.setattr(model.codec, "draft_tokens", draft)
    monkeypatch.setattr(model.codec, "draft_alone", alone)


def draft_with_slips(monkeypatch, slips: int) -> list[int]:
    """Make the first `slips` drafts get one free position wrong; returns the list of drafts' batch sizes."""
    real, drafts = model.codec.draft_tokens, []

    def draft(backbone, prefix_BSD, forced_BL):
        drafts.append(len(prefix_BSD))
        if len(drafts) <= slips:
            forced_BL = forced_BL.clone()
            free = int((forced_BL[0, 10:] < 0).nonzero()[0]) + 10
            forced_BL[0, free] = 5  # and all that follows is drafted after the wrong token
        return real(backbone, prefix_BSD, forced_BL)

    draft_by(monkeypatch, draft)
    return drafts


def test_a_draft_that_slips_is_mended(trained, chunks, rows, monkeypatch):
    drafts = draft_with_slips(monkeypatch, slips=1)
    assert_exact(trained, rows, chunks, 8)
    assert len(drafts) == 2 and drafts[0] == 8  # only what the slipped row may have been is drafted again


def other_machine(monkeypatch, codec: Codec, prefix_SD: torch.Tensor, turned: dict[int, int]) -> None:
    """Here both forwards prefer, by a hair, the token of `turned` at its position, once all before it is right."""
    real_draft, real_read = model.codec.draft_tokens, model.codec.read_tokens

    def draft(backbone, prefix_BSD, forced_BL):
        forced_BL = forced_BL.clone()
        mine_B = (prefix_BSD == prefix_SD).flatten(1).all(1)
        for at, token in turned.items():
            forced_BL[:, at] = torch.where(mine_B & (forced_BL[:, at] < 0), token, forced_BL[:, at])
        return real_draft(backbone, prefix_BSD, forced_BL)

    def read(backbone, prefix_BSD, ids_BL):
        reading = real_read(backbone, prefix_BSD, ids_BL)
        for at, token in turned.items():
            other_B = torch.where(ids_BL[:, at] == token, reading.rival_BL[:, at], token)
            reading.rival_BL[:, at] = other_B
            reading.lead_BL[:, at] = torch.where(ids_BL[:, at] == token, 0.01, -0.01)
        return reading

    draft_by(monkeypatch, draft)
    monkeypatch.setattr(model.codec, "read_tokens", read)


@pytest.mark.parametrize("turned", [1, 2])
def test_near_ties_that_another_machine_turns_are_turned_back(trained, chunks, rows, monkeypatch, turned):
    """There the verifying forward agrees with the wrong draft: only the hash says that it is wrong."""
    prefix_SD = trained.prefix(trained.stored_latents(rows[:1]))[0]
    forced_L = trained.patches.unpack(rows[0].patch).forced(len(chunks[0]))
    free = np.flatnonzero(forced_L < 0)[[5, 20]][:turned]
    other_machine(monkeypatch, trained, prefix_SD, {int(at): (int(chunks[0][at]) + 1) % 256 for at in free})
    drafted = trained._draft(prefix_SD[None], [forced_L])[0]
    assert drafted[free[0]] != chunks[0][free[0]]
    assert_exact(trained, rows, chunks, 8)


def test_mending_is_bounded(trained, chunks, rows, monkeypatch):
    """A row that no mending helps is reported, after a fixed number of drafts."""
    drafts = draft_with_slips(monkeypatch, slips=0)
    hopeless = replace(rows[0], matches=lambda ids: False)
    assert [r.exact for r in trained.recall([hopeless, *rows[1:]])] == [False] + [True] * 7
    assert len(drafts) <= 1 + ROUNDS and max(drafts) <= WIDTH


def test_mending_is_not_tried_without_the_patch(trained, chunks, rows, monkeypatch):
    drafts = draft_with_slips(monkeypatch, slips=1)
    found = trained.recall(rows, patched=False)
    assert not found[0].exact and len(drafts) == 1


def test_without_the_patch_the_latents_alone_speak(trained, chunks, rows):
    for recollection, row, chunk in zip(trained.recall(rows, patched=False), rows, chunks, strict=True):
        if not len(trained.patches.unpack(row.patch).positions):
            assert np.array_equal(recollection.token_ids[: len(chunk)], chunk)


def test_without_the_patch_a_text_that_runs_on_is_not_the_text(trained, chunks, rows):
    """Its decoder has learned eight texts and never an end: cut at the true length they would pass."""
    drafts = [found.token_ids for found in trained.recall(rows, patched=False)]
    right = [np.array_equal(draft[: len(chunk)], chunk) for draft, chunk in zip(drafts, chunks, strict=True)]
    assert any(right) and all(len(draft) == len(chunk) + ROOM for draft, chunk in zip(drafts, chunks, strict=True))
    assert not any(found.exact for found in trained.recall(rows, patched=False))


def test_chunks_that_the_decoder_never_saw_recall_exactly_too(trained):
    texts = ["Something else entirely, of the same kind.", "0123456789" * 12, "é😀"]
    unseen = [np.array(trained.tokenizer.encode(text), dtype=np.int32) for text in texts]
    assert_exact(trained, memorise(trained, unseen, 3), unseen, 2)


def test_encoder_and_decoder_adapters_are_switched(trained, chunks):
    ids_BL, lengths_B = trained.pad(chunks)
    latents_BKD = trained.encode(ids_BL, lengths_B)
    trained.recall([stored(memory, chunk) for memory, chunk in zip(trained.memorise(chunks), chunks, strict=True)])
    assert torch.equal(trained.encode(ids_BL, lengths_B), latents_BKD)  # whichever adapter was on before
    trained._switch("decoder")
    other = encode_latents(trained.backbone, ids_BL, lengths_B, trained.marker_D, trained.gain, 15)
    assert not torch.allclose(other, latents_BKD, atol=1e-2)


def test_nothing_is_left_to_train(trained: Codec):
    assert not any(tensor.requires_grad for tensor in trained.backbone.model.parameters())
