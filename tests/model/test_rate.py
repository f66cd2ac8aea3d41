"""Rows that store less: the first few latents, in fewer bits. What recall reads of them, and that it stays exact."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from memories import memorise, random_chunks, stored
from overfitted import text_chunks, tiny_backbone

from model import few_bits
from model.codec_io import load_codec, save_codec
from model.config import RefineConfig
from model.few_bits import LEVELS
from model.leading import add_directions, leading_directions
from model.patch import NOTHING
from model.rate import BITS, Rate
from model.refusal import Refusal
from model.straight_through import rounded
from model.untrained import untrained_codec

WIDTH = 64


def latents(codec, chunks):
    return codec.encode(*codec.pad(chunks))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("first", [1, 2, None])
def test_rows_of_every_rate_recall_exactly(trained, bits, first):
    codec = trained.at(Rate(first, bits))
    chunks = random_chunks(codec, [5, 17, 24, 24])
    rows = memorise(codec, chunks, 4)
    assert all(each.exact for each in codec.recall(rows))
    values = (first or codec.config.num_latents) * codec.backbone.width
    assert {(len(row.codes), len(row.scales)) for row in rows} == {(values * bits // 8, values // 64 * 2)}
    assert codec.quantiser.sizes == (values * bits // 8, values // 64 * 2)


def test_the_codes_of_fewer_latents_are_the_first_of_all_of_them(trained):
    chunks = random_chunks(trained, [9, 20])
    for bits in BITS:
        whole, short = (trained.at(Rate(first, bits)).memorise(chunks) for first in (None, 2))
        for one, other in zip(whole, short, strict=True):
            assert one.codes.startswith(other.codes) and one.scales.startswith(other.scales)
            assert np.array_equal(one.embedding_E, other.embedding_E)


def test_a_patch_is_of_the_latents_that_are_stored(trained):
    """Its decoder knows these texts from all their latents: with one latent alone the patch must hold more."""
    chunks = text_chunks(trained.backbone)
    whole, one = (trained.at(Rate(first)).memorise(chunks) for first in (None, 1))
    assert sum(len(memory.patch) for memory in whole) < sum(len(memory.patch) for memory in one)
    assert sum(memory.fidelity for memory in whole) > sum(memory.fidelity for memory in one)


def test_a_draft_of_the_first_latents_is_the_draft_of_a_row_that_stores_no_more(trained):
    chunks = random_chunks(trained, [12, 12])
    short, rows = trained.at(Rate(2)), memorise(trained, chunks, 2)
    given = [each.token_ids for each in trained.recall(rows, patched=False, k=2)]
    alone = [each.token_ids for each in short.recall(memorise(short, chunks, 2), patched=False)]
    assert all(np.array_equal(one, other) for one, other in zip(given, alone, strict=True))


def test_refining_moves_the_stored_latents_alone_and_no_patch_grows(trained):
    codec = trained.at(Rate(2, 2))
    chunks = random_chunks(codec, [8, 8, 8])
    before = codec.memorise(chunks)
    encoded = latents(codec, chunks)
    refined = codec.refine(encoded, chunks, RefineConfig(6))
    after = codec.keep(encoded, chunks, refined=refined)
    assert refined.latents_BKD.shape == (3, 2, codec.backbone.width)
    assert all(len(new.patch) <= len(old.patch) for new, old in zip(after, before, strict=True))
    rows = [stored(memory, chunk) for memory, chunk in zip(after, chunks, strict=True)]
    assert all(each.exact for each in codec.recall(rows))
    assert any(memory.patch == NOTHING or memory.refining.steps for memory in after)


@pytest.mark.parametrize("bits", sorted(LEVELS))
def test_what_refining_reads_is_what_is_read_back(trained, bits):
    values = torch.randn(3, 5 * WIDTH, generator=torch.Generator().manual_seed(1))
    codes, scales = few_bits.quantise(values, bits)
    assert (codes.shape[1], scales.shape[1]) == (5 * WIDTH * bits // 8, 5)
    assert torch.equal(rounded(values, bits), few_bits.dequantise(codes, scales, values.shape[1], bits))
    codec = trained.at(Rate(None, bits))
    encoded = latents(codec, random_chunks(codec, [10])).float()
    assert torch.allclose(codec.quantiser.through(encoded), codec.dequantise(*codec.quantise(encoded)), atol=1e-6)


@pytest.mark.parametrize(("bits", "error"), [(3, 0.178), (2, 0.343)])
def test_each_level_is_the_mean_of_what_it_stands_for(bits, error):
    """In blocks of normal values, weighted by the squared scale: no other levels err less."""
    values = torch.randn(40_000, 64, generator=torch.Generator().manual_seed(2))
    places, _ = few_bits.nearest(values, LEVELS[bits])
    scale = values.abs().amax(1, keepdim=True)
    weight = scale.square().expand_as(values)
    for place, level in enumerate(LEVELS[bits]):
        there = places[:, 0] == place
        mean = (values / scale * weight)[there].sum() / weight[there].sum()
        assert float(mean) == pytest.approx(level, abs=0.003)
    read = rounded(values, bits)
    assert float((read - values).square().mean().sqrt()) == pytest.approx(error, abs=0.002)


@pytest.fixture(scope="module")
def leading(trained):
    """The trained codec, with rows that hold half of each latent's values: its place along 64 directions of 128."""
    chunks = [*text_chunks(trained.backbone), *random_chunks(trained, [24] * 24)]
    standard = trained.quantiser.standardise(latents(trained, chunks)).flatten(0, 1)
    directions = leading_directions(standard, 64)
    return trained.at(Rate(), dataclasses.replace(trained.statistics, directions_RD=directions))


def test_rows_along_directions_are_half_as_large_and_recall_exactly(trained, leading):
    chunks = [*text_chunks(trained.backbone), *random_chunks(trained, [5, 24])]
    assert tuple(2 * size for size in leading.quantiser.sizes) == trained.quantiser.sizes
    for codec in (leading, leading.at(Rate(3, 2))):
        rows = memorise(codec, chunks, 5)
        assert all(each.exact for each in codec.recall(rows))
        assert {(len(row.codes), len(row.scales)) for row in rows} == {codec.quantiser.sizes}


def test_refining_along_directions_never_costs_and_stays_exact(trained, leading):
    chunks = text_chunks(trained.backbone)
    encoded = latents(leading, chunks)
    refined = leading.refine(encoded, chunks, RefineConfig(8))
    before, after = leading.keep(encoded, chunks), leading.keep(encoded, chunks, refined=refined)
    assert sum(len(memory.patch) for memory in after) < sum(len(memory.patch) for memory in before)
    rows = [stored(memory, chunk) for memory, chunk in zip(after, chunks, strict=True)]
    assert all(each.exact for each in leading.recall(rows))


def test_no_other_directions_keep_more_of_the_latents():
    draw = torch.Generator().manual_seed(3)
    standard = (
        torch.randn(500, 128, generator=draw)
        * torch.linspace(2, 0.1, 128)
        @ torch.linalg.qr(torch.randn(128, 128, generator=draw)).Q
    )
    found = leading_directions(standard, 64).float()
    others = torch.linalg.qr(torch.randn(128, 64, generator=draw)).Q.T
    assert torch.allclose(found @ found.T, torch.eye(64), atol=0.01)
    kept, by_others = (float((standard @ each.T).square().sum() / standard.square().sum()) for each in (found, others))
    assert kept > 0.8 > by_others


def test_a_codec_with_directions_is_another_codec_that_reads_its_rows(trained, leading, tmp_path):
    folder = save_codec(trained, tmp_path / "plain")
    made = add_directions(folder, leading.statistics.directions_RD, tmp_path / "leading")
    read = load_codec(made, backbone=tiny_backbone())
    assert read.identity != trained.identity and read.config.quantiser == "nf4-leading-64"
    chunks = text_chunks(trained.backbone)[:2]
    assert [m.codes for m in read.memorise(chunks)] == [m.codes for m in leading.memorise(chunks)]
    with pytest.raises(Refusal, match="along the leading directions already"):
        add_directions(made, leading.statistics.directions_RD, tmp_path / "twice")
    with pytest.raises(Refusal, match="rank is 60; it must be a multiple of 64 up to the latents' width, 128"):
        add_directions(folder, leading.statistics.directions_RD[:60], tmp_path / "odd")


def test_a_codec_that_names_directions_it_has_not_is_refused(trained):
    config = dataclasses.replace(trained.config, quantiser="nf4-leading-64")
    with pytest.raises(Refusal, match="only `nextmem convert --rank` makes a codec with directions"):
        untrained_codec(trained.backbone, config)


def test_a_rate_that_no_row_can_hold_is_refused(trained):
    with pytest.raises(Refusal, match="16 latents a row were asked for; the codec makes 15"):
        trained.at(Rate(16))
    with pytest.raises(Refusal, match="at least 1"):
        Rate(0)
    with pytest.raises(Refusal, match="one of 4, 3, 2"):
        Rate(bits=5)


def test_a_bank_s_name_for_a_rate_gives_the_rate_back():
    assert Rate.of(8, Rate(8, 3).quantiser("nf4-standardised-64")) == Rate(8, 3)
    assert Rate(None, 2).quantiser("nf4-standardised-64") == "nf2-standardised-64"
