"""The patch as bytes, and what it tells recall to force."""

from __future__ import annotations

import numpy as np
import pytest

from model.patch import FORCED, RAW, TEXT, Patch, PatchFormat, make_patch, text_patch

FORMATS = [
    pytest.param(PatchFormat(256, 65536), 3, id="1+2 bytes"),
    pytest.param(PatchFormat(256, 65537), 4, id="1+3 bytes"),
    pytest.param(PatchFormat(257, 65536), 4, id="2+2 bytes"),
    pytest.param(PatchFormat(4096, 151936), 5, id="2+3 bytes"),
]


def same(left: Patch, right: Patch) -> bool:
    return (
        left.kind == right.kind
        and np.array_equal(left.positions, right.positions)
        and np.array_equal(left.tokens, right.tokens)
    )


@pytest.mark.parametrize(("form", "entry"), FORMATS)
def test_patches_round_trip_in_as_many_bytes_as_the_widths_say(form, entry):
    rng = np.random.default_rng(0)
    ids = np.append(rng.integers(0, form.vocab_size, form.chunk_tokens - 1), form.vocab_size - 1)
    few = np.zeros(len(ids), dtype=bool)
    few[[0, 7, len(ids) - 1]] = True
    for mask, size in [(few, 1 + 3 * entry), (few & False, 1)]:
        patch = make_patch(ids, mask)
        assert patch.kind == FORCED
        assert len(form.pack(patch)) == size
        assert same(form.unpack(form.pack(patch)), patch)
    raw = make_patch(ids, ~few)
    assert raw.kind == RAW
    assert len(form.pack(raw)) == 1 + len(ids) * (entry - (1 if form.chunk_tokens <= 256 else 2))
    assert same(form.unpack(form.pack(raw)), raw)


@pytest.mark.parametrize("count", [16, 17, 40, 64])
def test_many_positions_are_one_bit_each_where_a_list_is_longer(count):
    """Chunks shorter than the codec's too: the bits are of the longest chunk."""
    form, ids = PatchFormat(128, 49152), np.arange(128) + 300
    mask = np.zeros(128, dtype=bool)
    mask[np.random.default_rng(count).permutation(128)[:count]] = True
    patch = make_patch(ids, mask)
    assert len(form.pack(patch)) == 1 + min(16, count) + 2 * count
    assert same(form.unpack(form.pack(patch)), patch)
    short = make_patch(ids[:40], np.arange(40) % 2 == 1)
    assert same(form.unpack(form.pack(short)), short)


def test_raw_ids_replace_entries_past_half_of_the_positions():
    ids = np.arange(128)
    assert make_patch(ids, ids < 64).kind == FORCED
    assert make_patch(ids, ids < 65).kind == RAW


def test_kept_text_has_the_kind_byte_alone():
    form = PatchFormat(128, 49152)
    data = form.pack(text_patch())
    assert data == bytes([TEXT])
    assert form.keeps_text(data) and same(form.unpack(data), text_patch())
    assert not form.keeps_text(form.pack(make_patch([5], np.array([False])))) and not form.keeps_text(b"")


def test_bytes_are_little_endian_positions_then_tokens():
    patch = Patch(FORCED, np.array([1, 9]), np.array([0x0102, 0x0304]))
    assert PatchFormat(128, 49152).pack(patch) == bytes([0, 1, 9, 0x02, 0x01, 0x04, 0x03])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x01",
        b"\x00\x01\x02\x03\x04",
        b"\x01\x02",
        b"\x02\x00",
        b"\x03",
        b"\x03" + b"\xff" * 17,
        b"\xff\x00\x00\x00",
    ],
)
def test_damaged_bytes_are_refused(data):
    with pytest.raises(ValueError, match="is damaged"):
        PatchFormat(128, 49152).unpack(data)


@pytest.mark.parametrize("data", [b"\x00\xff\x01\x00", b"\x00\x09\x01\x00", b"\x03\x00\x04" + bytes(14) + b"\x01\x00"])
def test_a_position_past_the_chunk_is_refused(data):
    with pytest.raises(ValueError, match="is damaged"):
        PatchFormat(128, 49152).unpack(data).forced(9)


def test_raw_ids_of_another_length_are_refused():
    with pytest.raises(ValueError, match="is damaged"):
        PatchFormat(128, 49152).unpack(b"\x01\x01\x00\x02\x00").forced(3)


def test_forced_names_the_token_of_each_forced_position():
    assert make_patch([10, 11, 12, 13], np.array([0, 1, 0, 1], dtype=bool)).forced(4).tolist() == [-1, 11, -1, 13]
    assert make_patch([10, 11], np.array([1, 1], dtype=bool)).forced(2).tolist() == [10, 11]
    assert text_patch().forced(2).tolist() == [-1, -1]


def test_carried_is_the_share_that_the_latents_decide():
    assert make_patch(range(8), np.arange(8) < 2).carried(8) == 0.75
    assert make_patch(range(8), np.arange(8) < 0).carried(8) == 1.0
    assert make_patch(range(8), np.arange(8) < 8).carried(8) == 0.0
    assert text_patch().carried(8) == 0.0
