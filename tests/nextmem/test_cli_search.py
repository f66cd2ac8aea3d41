"""search by latents, words or both: what a person reads, and what a program reads with --json."""

from __future__ import annotations

import pytest
from works import ARTICLES, Works, jsonl

from model.config import LATENTS_WEIGHTS, MEAN
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.stems import hashes, words


@pytest.fixture(scope="module")
def worded(tmp_path_factory, tiny_codec_folder):
    """A bank of ARTICLES that keeps their words."""
    from pipeline.encode import encode_work

    folder = tmp_path_factory.mktemp("worded")
    works = Works(folder, tiny_codec_folder, jsonl(folder / "articles.jsonl", ARTICLES), keep_words=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
        commit(works.bank, [works.encode().receipt])
    return works.bank.folder.uri


def test_a_word_that_two_chunks_share_is_found_in_both(nextmem, worded):
    """Chunks of 32 bytes: `The quick brown fox jumps over t|he lazy dog, twice a day.` The first holds `the` twice."""
    found = nextmem("search", worded, "the", "--by", "words", "--json").records
    assert [(row["doc_id"], row["char_start"]) for row in found] == [("fox", 0), ("fox", 32)]


def test_a_search_by_words_finds_a_script_without_spaces(nextmem, worded):
    found = nextmem("search", worded, "日本", "--by", "words", "--json").records
    assert found and {row["doc_id"] for row in found} == {"tokyo"}


def test_explain_says_what_either_side_gave(nextmem, worded):
    ran = nextmem("search", worded, "lazy foxes", "--by", "both", "-k", "1", "--explain")
    head, why = ran.out.splitlines()
    assert " fox [" in head and why.startswith("         latents: place ")
    assert "; words: place 1, BM25 " in why and ("(lazy " in why or "(foxes " in why)
    assert why.endswith(f", give {1 - LATENTS_WEIGHTS[MEAN]:.2f}") and why.count(", give ") == 2


def test_a_weight_of_a_person_s_own_and_where_it_makes_no_sense(nextmem, worded):
    ran = nextmem("search", worded, "lazy foxes", "--by", "both", "--weight", "0.5", "-k", "1", "--explain")
    assert ", give 0.50" in ran.out
    assert nextmem("search", worded, "fox", "--weight", "0.5").code == 2
    assert nextmem("search", worded, "fox", "--by", "both", "--weight", "2").code == 2


def test_explain_is_an_object_for_programs(nextmem, worded):
    [row] = nextmem("search", worded, "lazy", "--by", "words", "-k", "1", "--explain", "--json").records
    assert row["explained"]["latents"] is None
    assert row["explained"]["words"] == {
        "place": 1,
        "score": row["score"],
        "parts": {"lazy": row["score"]},
        "given": None,
    }
    [plain] = nextmem("search", worded, "lazy", "-k", "1", "--json").records
    assert "explained" not in plain and set(plain) == set(row) - {"explained"}


def test_a_search_by_words_loads_no_codec(nextmem, worded, monkeypatch):
    monkeypatch.setattr("nextmem.bank.load_bank_codec", lambda *arguments, **options: pytest.fail("loaded"))
    assert nextmem("search", worded, "lazy", "--by", "words").code == 0


@pytest.mark.parametrize("by", ["words", "both"])
def test_a_bank_without_words_says_how_to_make_one(refused, articles, by):
    assert "`nextmem encode CORPUS NEWBANK --keep-words`" in refused("search", articles, "fox", "--by", by)


def test_words_are_hashed_in_the_bank(worded):
    stored = b"".join(row for batch in Bank.open(worded).rows(["stems"]) for row in batch.column(0).to_pylist())
    assert hashes(words("lazy"))[0].to_bytes(4, "little") in stored and b"lazy" not in stored


def test_encode_without_the_stemmer_says_what_to_install(refused, tmp_path, monkeypatch):
    from pipeline import stems

    monkeypatch.setitem(__import__("sys").modules, "Stemmer", None)
    stems._stemmer.cache_clear()
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES)
    said = refused("encode", corpus, tmp_path / "bank", "--keep-words")
    stems._stemmer.cache_clear()
    assert said == "words need the package PyStemmer, which is not installed: pip install 'nextmem[words]'"
    assert not (tmp_path / "bank").exists()
