"""Memorise and recall with an untrained codec on both tiny families: exact, through the patch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memories import assert_exact, memorise, random_chunks, stored

from model.codec import ROOM
from model.config import CodecConfig
from model.patch import RAW
from model.tokens import TokenChunk
from model.untrained import calibrate, untrained_codec

LENGTHS = [3, 128, 1, 40, 127, 40, 2, 77]


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_mixed_lengths_recall_exactly_and_in_order(tiny_codec, size):
    chunks = random_chunks(tiny_codec, LENGTHS)
    assert_exact(tiny_codec, memorise(tiny_codec, chunks, size), chunks, size)
    assert_exact(tiny_codec, memorise(tiny_codec, chunks, 8), chunks, size)


def test_a_memory_has_the_sizes_of_a_row(tiny_codec):
    (memory,) = tiny_codec.memorise(random_chunks(tiny_codec, [50]))
    assert (len(memory.codes), len(memory.scales)) == (15 * 64 // 2, 15 * 64 // 64 * 2)
    assert memory.embedding_E.shape == (64,) and memory.embedding_E.dtype == np.float32
    assert 0.0 <= memory.fidelity < 0.5
    assert tiny_codec.patches.unpack(memory.patch).kind == RAW  # untrained: the ids themselves are smaller


def test_a_memory_does_not_depend_on_its_batch(llama):
    """With raw latents: fifteen steps through the linear gain of a random backbone magnify rounding 5,000 times."""
    codec = untrained_codec(llama, CodecConfig(latent_gain="raw"))
    chunks = random_chunks(codec, LENGTHS)
    alone = [codec.memorise([chunk])[0].embedding_E for chunk in chunks]
    together = [memory.embedding_E for memory in codec.memorise(chunks)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_embeddings_have_length_one_and_tell_chunks_apart(tiny_codec):
    embeddings = np.stack([m.embedding_E for m in tiny_codec.memorise(random_chunks(tiny_codec, [64] * 6))])
    cosines = embeddings @ embeddings.T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert np.abs(cosines - np.eye(6)).max() < 0.95


def test_without_verifying_there_is_no_fidelity_and_no_patch(tiny_codec):
    chunks = random_chunks(tiny_codec, [20, 30])
    verified, quick = tiny_codec.memorise(chunks), tiny_codec.memorise(chunks, verify=False)
    assert [(m.fidelity, m.patch) for m in quick] == [(None, None)] * 2
    assert [(m.codes, m.scales) for m in quick] == [(m.codes, m.scales) for m in verified]
    for memory, chunk in zip(quick, chunks, strict=True):
        (recollection,) = tiny_codec.recall([stored(memory, chunk)])
        assert (recollection.exact, recollection.carried, len(recollection.token_ids)) == (False, None, len(chunk))


def test_without_the_patch_an_untrained_codec_shows_other_text(tiny_codec):
    chunks = random_chunks(tiny_codec, [30, 40])
    rows = memorise(tiny_codec, chunks, 2)
    for recollection, chunk in zip(tiny_codec.recall(rows, patched=False), chunks, strict=True):
        assert not recollection.exact
        drafted = recollection.token_ids  # an untrained codec does not end: it is cut ROOM tokens past the text
        assert len(drafted) == len(chunk) + ROOM and not np.array_equal(drafted[: len(chunk)], chunk)


def test_what_latents_give_ends_with_the_first_end_of_text(tiny_codec):
    end = tiny_codec.backbone.end_token
    assert tiny_codec.until_end(np.array([5, 6, end, 7, end])).tolist() == [5, 6]
    assert tiny_codec.until_end(np.array([5, 6])).tolist() == [5, 6]


@pytest.mark.parametrize("lengths", [[], [0], [5, 0], [129]])
def test_empty_and_overlong_chunks_are_refused(tiny_codec, lengths):
    with pytest.raises(ValueError, match=r"chunks of \[.*\] tokens; wanted 1 to 128"):
        tiny_codec.memorise([np.ones(length, dtype=np.int32) for length in lengths])


@pytest.mark.parametrize("gain", ["raw", "fixed", "learned", "linear"])
def test_every_gain_recalls_exactly_and_gives_other_latents(llama, gain):
    codec = untrained_codec(llama, CodecConfig(latent_gain=gain))
    chunks = random_chunks(codec, [64, 17])
    assert_exact(codec, memorise(codec, chunks, 2), chunks, 2)
    assert (codec.gain.tensors() == {}) == (gain == "raw")
    if gain != "raw":
        latents_BKD = codec.encode(*codec.pad(chunks))
        fed = float(codec.gain(latents_BKD).norm(dim=-1).mean())
        assert 0.5 < fed / float(llama.embed.weight.norm(dim=-1).mean()) < 2


def test_a_backbone_wider_than_an_index_takes_is_projected_orthogonally(llama):
    codec = untrained_codec(llama, CodecConfig(max_embedding_width=16))
    projection_DE = codec.statistics.projection_DE.float()
    assert (codec.embedding_width, tuple(projection_DE.shape)) == (16, (64, 16))
    torch.testing.assert_close(projection_DE.T @ projection_DE, torch.eye(16), atol=2e-2, rtol=0)  # kept in bf16
    (memory,) = codec.memorise(random_chunks(codec, [40]))
    assert memory.embedding_E.shape == (16,)
    assert np.linalg.norm(memory.embedding_E) == pytest.approx(1, abs=1e-5)


def test_calibration_measures_each_channel():
    latents_NKD = torch.tensor([[[1.0, 10.0]], [[3.0, 10.0]]])
    statistics = calibrate(latents_NKD, CodecConfig())
    assert statistics.mean_D.tolist() == [2, 10]
    assert statistics.deviation_D.tolist() == pytest.approx([2**0.5, 0])
    assert statistics.projection_DE is None


def test_calibration_is_reproducible(llama):
    assert untrained_codec(llama).identity == untrained_codec(llama).identity


def test_text_to_chunks_to_memories_and_back(tiny_codec):
    text = "Nothing is dropped in silence: naïve 😀 text,\r\n   spaces and <|endoftext|> alike. " * 5
    chunks: list[TokenChunk] = list(tiny_codec.tokenizer.chunks(text, tiny_codec.config.chunk_tokens))
    rows = memorise(tiny_codec, [chunk.token_ids for chunk in chunks], 8)
    assert "".join(tiny_codec.tokenizer.decode(r.token_ids) for r in tiny_codec.recall(rows)) == text
