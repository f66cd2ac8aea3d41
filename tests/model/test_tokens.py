"""Chunks tile a document exactly, and never split what a reader sees as one character."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import model.tokens
from model.bytes_tokenizer import bytes_tokenizer
from model.embedded import EMBEDDED
from model.tokens import TextTokenizer, chunk_id, text_hash
from model.weights import find_weights

CHARACTERS = [  # a reader sees each as one
    *(
        "é",
        "e\u0301",
        "o\u0302\u0323",
        "न\u093f",
        "ก\u0e31",
        "각",
        "\u1100\u1161\u11a8",
        "ｶ\uff9e",
    ),  # marks, Hangul, kana
    *("漢", "字", "か", "п", "ש", "ﷺ", "𝔘", "𓀀", "\ufeff", "\x00", "\ufffd", "\r\n"),
    *("😀", "👍🏽", "❤️", "1️⃣", "🇫🇷", "🇯🇵", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"),
    *("👨‍👩‍👧‍👦", "🏳️‍🌈", "👩🏽‍🚀"),
]
PLAIN = [*"aeiou xyz.,;\t0123456789", "the ", "memory", " bank ", "\n\n", "   ", "<|endoftext|>", "<s>", "x" * 300]


@pytest.fixture(
    scope="session", params=["tiny-llama", pytest.param(EMBEDDED, marks=pytest.mark.backbone)], ids=["bytes", EMBEDDED]
)
def tokenizer(request) -> TextTokenizer:
    return find_weights(request.param).tokenizer()


def tiles(tokenizer: TextTokenizer, text: str, limit: int) -> list:
    """The chunks, after checking what must hold for every text and tokenizer."""
    chunks = list(tokenizer.chunks(text, limit))
    assert "".join(text[c.char_start : c.char_end] for c in chunks) == text
    assert [c.char_start for c in chunks] == [0, *(c.char_end for c in chunks[:-1])][: len(chunks)]
    assert [c.position for c in chunks] == list(range(len(chunks)))
    assert all(len(c.token_ids) <= limit and c.token_ids.dtype == np.int32 for c in chunks)
    assert all(c.lossy == (tokenizer.decode(c.token_ids) != text[c.char_start : c.char_end]) for c in chunks)
    return chunks


def random_document(seed: int) -> tuple[str, set[int]]:
    """A text and the places where one of its characters starts."""
    rng = random.Random(seed)
    parts = [character for _ in range(rng.randrange(1, 400)) for character in one_of(rng)]
    starts = [0, *np.cumsum([len(part) for part in parts]).tolist()]
    return "".join(parts), set(starts)


def one_of(rng: random.Random) -> list[str] | str:
    return [rng.choice(CHARACTERS)] if rng.random() < 0.5 else rng.choice(PLAIN)


@pytest.mark.parametrize("limit", [32, 128])
def test_chunks_tile_random_texts_between_characters(tokenizer, limit):
    for seed in range(60):
        text, starts = random_document(seed)
        chunks = tiles(tokenizer, text, limit)
        assert not any(c.lossy for c in chunks), seed
        split = [c.char_start for c in chunks if c.char_start not in starts]
        assert not split, (seed, [text[i - 3 : i + 3] for i in split])


def test_chunks_are_as_full_as_characters_allow(tokenizer):
    chunks = tiles(tokenizer, "one two three " * 400, 128)
    assert {len(c.token_ids) for c in chunks[:-1]} == {128}


@pytest.mark.parametrize("start", ["", "a", "ab", "abc"])
def test_a_run_of_flags_is_cut_between_flags(start):
    tokenizer = TextTokenizer(bytes_tokenizer())
    chunks = tiles(tokenizer, start + "🇫🇷" * 50, 20)  # 8 bytes a flag: two flags a chunk, never two and a half
    assert {(c.char_end - len(start)) % 2 for c in chunks} == {0}


def test_more_marks_than_a_chunk_holds_still_tile(tokenizer):
    chunks = tiles(tokenizer, "a" + "\u0301" * 500 + " end", 64)
    assert len(chunks) > 2 and not any(c.lossy for c in chunks)


def test_empty_text_gives_no_chunks(tokenizer):
    assert tiles(tokenizer, "", 128) == []


def test_specials_in_a_text_are_text(tokenizer):
    ids = tokenizer.encode("<|endoftext|>")
    assert len(ids) > 1 and tokenizer.decode(ids) == "<|endoftext|>"


@pytest.mark.parametrize("segment", [7, 64, 200])
def test_long_documents_tile_across_segments(tokenizer, monkeypatch, segment):
    monkeypatch.setattr(model.tokens, "SEGMENT_CHARS", segment)
    for seed in range(10):
        text, starts = random_document(seed)
        chunks = tiles(tokenizer, text, 128)
        assert all(c.char_end - c.char_start <= segment for c in chunks)
        if segment > 20:
            assert all(c.char_start in starts for c in chunks)


def test_segments_end_after_a_line_where_one_ends_near(monkeypatch):
    monkeypatch.setattr(model.tokens, "SEGMENT_CHARS", 100)
    text = "x" * 94 + "\n" + "y" * 150
    chunks = tiles(TextTokenizer(bytes_tokenizer()), text, 4096)
    assert [c.char_end for c in chunks] == [95, 195, 245]


def lossy_tokenizer(kind: str) -> TextTokenizer:
    if kind == "drops unknown words":
        backend = Tokenizer(models.WordLevel({"known": 0, "[UNK]": 1}, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        return TextTokenizer(backend)
    backend = bytes_tokenizer()
    backend.normalizer = {
        "lowercases": normalizers.Lowercase(),
        "strips": normalizers.Strip(),
        "expands": normalizers.NFKC(),
    }[kind]
    return TextTokenizer(backend)


@pytest.mark.parametrize("kind", ["lowercases", "strips", "expands", "drops unknown words"])
def test_a_lossy_tokenizer_says_so_and_still_tiles(kind):
    text = "  Known ﬁne words ½ Élan known  " * 20
    chunks = tiles(lossy_tokenizer(kind), text, 32)
    assert any(c.lossy for c in chunks)


def test_a_text_that_a_tokenizer_drops_whole_is_one_lossy_chunk():
    (chunk,) = tiles(lossy_tokenizer("drops unknown words"), "   \n", 32)
    assert (chunk.char_end, len(chunk.token_ids), chunk.lossy) == (4, 0, True)


def test_chunk_id_is_the_same_on_any_machine_and_changes_with_each_part():
    ids = np.array([1, 2, 300], dtype=np.int32)
    assert chunk_id("doc", 0, ids) == "7c32393bc1941ed24a5e000efbb2d640"
    assert chunk_id("doc", 0, ids.astype(np.int64)) == chunk_id("doc", 0, [1, 2, 300]) == chunk_id("doc", 0, ids)
    others = [
        chunk_id("dod", 0, ids),
        chunk_id("doc", 1, ids),
        chunk_id("doc", 0, ids[:2]),
        chunk_id("doc", 0, ids[::-1]),
        chunk_id("do", 0, ids),
    ]
    assert len({chunk_id("doc", 0, ids), *others}) == 6


def test_text_hash_is_fixed():
    assert text_hash("") == "cae66941d9efbd404e4d88758ea67670"
    assert text_hash("naïve 😀") == "874304214a303ae45907ea299aa061b4"
    assert text_hash("\ud800") != text_hash("\ud801")  # lone surrogates have no UTF-8 form and still differ


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is missing: use a backbone with a fast tokenizer"):
        TextTokenizer.load(tmp_path / "tokenizer.json")


def test_saving_and_loading_keeps_the_fingerprint(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    assert TextTokenizer.load(tmp_path / "tokenizer.json").fingerprint == tokenizer.fingerprint


def test_training_cuts_many_texts_as_encoding_cuts_each(tokenizer):
    """Also where the limit falls inside a character, a text is empty, or is read in segments."""
    texts = [random_document(seed)[0] for seed in range(20)] + ["", "\U0001f680" * 40, "line of text\n" * 100_000]
    for limit in (16, 128):
        found = tokenizer.cut_many(texts, limit)
        for text, cut in zip(texts, found, strict=True):
            wanted = [chunk.token_ids for chunk in tokenizer.chunks(text, limit)]
            assert len(cut) == len(wanted) and all(np.array_equal(a, b) for a, b in zip(cut, wanted, strict=True))
