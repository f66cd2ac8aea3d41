"""recall, search, export, info and verify: what a person reads, and what a program reads with --json."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from works import ARTICLES

from pipeline.bank.bank import Bank
from pipeline.bank.lookup import by_doc_id
from pipeline.bank.opened import load_bank_codec, open_bank
from pipeline.bank.search import embed_query

RECALLED = {"chunk_id", "doc_id", "position", "char_start", "char_end", "text", "exact", "fidelity", "carried"}


@pytest.fixture
def damaged(articles, tmp_path):
    """The articles, with the second chunk of `fox` saying that its text was another one."""
    bank = shutil.copytree(articles, tmp_path / "bank")
    (name,) = Bank.open(bank).files()
    rows = pq.read_table(bank / name)
    hashes = rows["text_hash"].to_pylist()
    hashes[1] = "0" * 32
    pq.write_table(
        rows.set_column(rows.schema.get_field_index("text_hash"), "text_hash", pa.array(hashes)), bank / name
    )
    return bank


def test_recall_of_a_document_prints_its_text_and_nothing_else_on_stdout(nextmem, articles):
    for doc_id, text in ARTICLES.items():
        ran = nextmem("recall", articles, "--doc", doc_id)
        assert (ran.code, ran.out) == (0, text)


def test_recall_says_on_stderr_what_the_latents_carry(nextmem, articles):
    assert "2 chunks; latents carry" in nextmem("recall", articles, "--doc", "fox").err


def test_recall_of_a_chunk_prints_its_text(nextmem, articles):
    row = by_doc_id(Bank.open(articles), "fox").to_pylist()[1]
    ran = nextmem("recall", articles, "--id", row["chunk_id"])
    assert ran.out == ARTICLES["fox"][row["char_start"] : row["char_end"]]
    assert ran.err.startswith("\n1 chunk; latents carry ")


def test_recall_of_all_parts_documents_by_a_line_feed(nextmem, articles):
    assert nextmem("recall", articles, "--all").out == "\n".join(ARTICLES.values())


def test_recall_of_all_shows_its_progress_on_stderr_and_is_silent_with_json(nextmem, articles):
    ran = nextmem("recall", articles, "--all")
    assert "recalling:   0%" in ran.err and "recalling" not in ran.out
    assert nextmem("recall", articles, "--all", "--json").err == ""


def test_recall_as_json_has_a_line_a_chunk_with_every_field(nextmem, articles):
    ran = nextmem("recall", articles, "--all", "--json")
    assert ran.err == "" and {frozenset(record) for record in ran.records} == {frozenset(RECALLED)}
    for record in ran.records:
        assert record["exact"]
        assert record["text"] == ARTICLES[record["doc_id"]][record["char_start"] : record["char_end"]]
        assert 0 <= record["fidelity"] <= 1 and 0 <= record["carried"] <= 1


def test_no_patch_shows_what_the_latents_alone_give(nextmem, articles):
    ran = nextmem("recall", articles, "--all", "--no-patch", "--json")
    assert ran.code == 0 and not any(record["exact"] for record in ran.records)
    note = nextmem("recall", articles, "--doc", "fox", "--no-patch").err
    assert "2 chunks as latents alone give the text; patches and raw ids correct" in note


def test_a_row_that_is_not_exact_is_named_and_never_printed(nextmem, damaged):
    chunk = by_doc_id(Bank.open(damaged), "fox").to_pylist()[1]
    ran = nextmem("recall", damaged, "--doc", "fox")
    assert (ran.code, ran.out) == (1, ARTICLES["fox"][: chunk["char_start"]])
    assert f"nextmem: chunk {chunk['chunk_id']} (document 'fox', position 1) does not recall exactly" in ran.err


def test_search_finds_a_chunk_by_its_own_text(nextmem, articles):
    ran = nextmem("search", articles, ARTICLES["fox"][:32], "-k", "2", "--json")
    assert [set(record) for record in ran.records] == [
        {"chunk_id", "doc_id", "position", "source", "char_start", "char_end", "score"}
    ] * 2
    assert (ran.records[0]["doc_id"], ran.records[0]["position"]) == ("fox", 0)
    assert ran.records[0]["score"] == pytest.approx(1, abs=1e-4)


def test_a_short_query_is_embedded_as_a_full_chunk_of_its_words(articles):
    codec = load_bank_codec(open_bank(str(articles)))
    limit = codec.config.chunk_tokens
    (filled,) = codec.memorise([next(codec.tokenizer.chunks("lazy dog " * limit, limit)).token_ids], verify=False)
    np.testing.assert_allclose(embed_query(codec, "lazy dog"), filled.embedding_E, atol=1e-3)


def test_search_with_recall_says_what_the_latents_carried(nextmem, articles):
    ran = nextmem("search", articles, ARTICLES["fox"][:32], "-k", "1", "--recall")
    assert "latents carry" in ran.out and ARTICLES["fox"][:32].strip() in ran.out
    (record,) = nextmem("search", articles, ARTICLES["fox"][:32], "-k", "1", "--recall", "--json").records
    assert record["text"] == ARTICLES["fox"][:32] and record["exact"] and "carried" in record


def test_a_query_longer_than_a_chunk_is_fine(nextmem, articles):
    assert nextmem("search", articles, ARTICLES["fox"] * 3, "-k", "1").code == 0


def test_where_keeps_search_and_recall_to_its_rows(nextmem, articles):
    where = ("--where", "doc_id in ('fox', 'tokyo') and not doc_id = fox", "--where", "position = 0")
    (found,) = nextmem("search", articles, ARTICLES["fox"][:32], "-k", "50", *where, "--json").records
    assert (found["doc_id"], found["position"]) == ("tokyo", 0)
    ran = nextmem("recall", articles, *where)
    assert (ran.code, ran.out) == (0, ARTICLES["tokyo"][: found["char_end"]])


def test_a_recall_of_no_rows_says_so(nextmem, articles):
    ran = nextmem("recall", articles, "--where", "doc_id = none")
    assert (ran.code, ran.out) == (0, "") and "no row of the bank is such" in ran.err


def test_info_shows_counts_and_the_codec(nextmem, articles):
    ran = nextmem("info", articles)
    assert ran.code == 0 and ran.err == ""
    shown = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert shown["documents"].strip() == "3, 0 rejected"
    (record,) = nextmem("info", articles, "--json").records
    assert (record["documents"], record["chunks"], record["rejected"]) == (3, Bank.open(articles).count(), 0)
    assert record["identity"]["num_latents"] == 3


def test_verify_says_that_a_bank_is_whole(nextmem, articles):
    ran = nextmem("verify", articles)
    assert ran.code == 0 and "whole: every chunk once, every hash right" in ran.out
    (record,) = nextmem("verify", articles, "--json").records
    count = Bank.open(articles).count()
    assert (record["chunks"], record["decoded"], record["problems"]) == (count, count, [])


def test_verify_of_a_sample_decodes_as_many_rows(nextmem, articles):
    (record,) = nextmem("verify", articles, "--sample", "2", "--json").records
    assert (record["decoded"], record["problems"]) == (2, [])


def test_verify_names_the_row_and_exits_with_1(nextmem, damaged):
    ran = nextmem("verify", damaged, "--json")
    chunk = by_doc_id(Bank.open(damaged), "fox").to_pylist()[1]
    assert ran.code == 1 and chunk["chunk_id"] in " ".join(ran.records[0]["problems"])
    assert "Traceback" not in ran.err


def test_export_writes_plain_parquet_of_every_row(nextmem, articles, tmp_path):
    (record,) = nextmem("export", articles, tmp_path / "out", "--json").records
    written = sum(pq.read_table(file).num_rows for file in (tmp_path / "out").rglob("*.parquet"))
    assert record["rows"] == Bank.open(articles).count() == written
    assert nextmem("export", articles, tmp_path / "again").out.startswith("out    ")
