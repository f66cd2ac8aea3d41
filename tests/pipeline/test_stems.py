"""Words of a text: one form for a word's endings, pairs where a script has no spaces, five bytes a stem."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stems import STEM, hashes, pack, with_whole_words, words


def counts(text):
    return dict(np.frombuffer(pack(text), STEM).tolist())


def test_endings_and_capitals_make_no_other_word():
    assert hashes(["rising", "rises", "rise"]) == hashes(["rise"]) * 3
    assert words("Straße STRASSE ｆｕｌｌ") == ["strasse", "strasse", "full"]


def test_a_script_without_spaces_gives_pairs_of_neighbours():
    assert words("東京は日本 in Japan, 水") == ["東京", "京は", "は日", "日本", "in", "japan", "水"]


def test_each_stem_stands_once_with_its_count_in_five_bytes():
    bread, [water] = counts("Bread, bread and water: breads!"), hashes(["water"])
    assert sorted(bread.values()) == [1, 1, 3] and bread[water] == 1
    assert len(pack("Bread, bread and water: breads!")) == 15
    assert pack("... !?") == b""


def test_a_word_that_stands_more_than_255_times_counts_255():
    assert list(counts("la " * 300).values()) == [255]


def test_hashes_are_the_same_in_every_process_and_release():
    assert hashes(["bread", "東京"]) == [2630045003, 2451981039]  # zlib.crc32


@pytest.mark.parametrize(
    "start, end, whole",
    [
        (0, 5, "sourdough"),  # sourd|ough
        (5, 12, "sourdough is"),  # sourd|ough is
        (9, 12, " is"),  # a space begins it: nothing was cut
        (10, 15, "is 東京"),  # characters of a script without spaces are words enough
        (12, 14, " 東"),
    ],
)
def test_a_word_that_a_chunk_cuts_counts_as_a_whole_one(start, end, whole):
    assert with_whole_words("sourdough is 東京 bread", start, end) == whole
