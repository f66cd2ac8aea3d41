"""`nextmem forget`, its undo and `nextmem tend --now`, on the command line and from Python."""

from __future__ import annotations

import shutil

import pytest
from works import ARTICLES

import nextmem as face
from pipeline.bank.bank import Bank


@pytest.fixture
def bank(articles, tmp_path):
    """A bank of one's own, of three articles."""
    return shutil.copytree(articles, tmp_path / "bank")


def documents(bank):
    return sorted(doc_id for doc_id, _ in Bank.open(bank).documents())


def chunks(bank, doc_id):
    return len(
        [row for batch in Bank.open(bank).rows(["doc_id"]) for row in batch.to_pylist() if row["doc_id"] == doc_id]
    )


def test_a_document_is_forgotten_and_every_command_says_so(nextmem, refused, bank):
    many = chunks(bank, "fox")
    ran = nextmem("forget", bank, "--doc", "fox")
    assert ran.code == 0 and f"forgotten  1 document of {many} chunks forgotten\n" in ran.out
    assert "documents  fox\n" in ran.out and documents(bank) == ["marks", "tokyo"]
    assert "documents    2, 0 rejected, 1 forgotten\n" in nextmem("info", bank).out
    assert nextmem("info", bank, "--json").records[0]["forgotten"] == 1
    assert refused("recall", bank, "--doc", "fox").endswith(
        "has no doc_id 'fox' at version 2. It was forgotten in version 2."
    )
    assert [row["doc_id"] for row in nextmem("search", bank, "the quick fox", "-k", "99", "--json").records].count(
        "fox"
    ) == 0


def test_the_same_command_again_says_that_it_is_done(nextmem, bank):
    nextmem("forget", bank, "--doc", "fox")
    ran = nextmem("forget", bank, "--doc", "fox")
    assert (
        ran.code == 0 and "nothing forgotten\n" in ran.out and "1 of those asked for were forgotten before" in ran.out
    )


def test_a_dry_run_names_what_would_go(nextmem, bank):
    (said,) = nextmem("forget", bank, "--where", "doc_id >= m", "--dry-run", "--json").records
    assert (said["event"], said["documents"], said["ids"], said["dry_run"]) == (
        "forgotten",
        2,
        ["marks", "tokyo"],
        True,
    )
    assert said["chunks"] == chunks(bank, "marks") + chunks(bank, "tokyo")
    assert "would be forgotten" in nextmem("forget", bank, "--doc", "fox", "--dry-run").out
    assert documents(bank) == sorted(ARTICLES)


def test_a_condition_forgets_documents_and_one_that_is_true_of_none_is_no_error(nextmem, bank):
    assert nextmem("forget", bank, "--where", "doc_id > f", "--where", "doc_id < n").code == 0
    assert documents(bank) == ["tokyo"]
    assert "nothing forgotten" in nextmem("forget", bank, "--where", "doc_id < a").out


def test_undo_brings_back_the_text_and_a_second_one_has_nothing_to_do(nextmem, refused, bank):
    nextmem("forget", bank, "--doc", "fox", "--doc", "tokyo")
    (said,) = nextmem("forget", bank, "--undo", "--json").records
    assert (said["event"], said["documents"], said["ids"]) == ("brought back", 2, ["fox", "tokyo"])
    assert nextmem("recall", bank, "--doc", "tokyo").out.startswith(ARTICLES["tokyo"][:20])
    assert "has nothing forgotten at version 3 to bring back" in refused("forget", bank, "--undo")


def test_tend_now_ends_older_versions_and_so_the_undo(nextmem, refused, bank):
    nextmem("forget", bank, "--doc", "fox")
    (dry,) = nextmem("tend", bank, "--now", "--dry-run", "--json").records
    ran = nextmem("tend", bank, "--now")
    assert dry["log_files"] == 2 and "0 h old or more" in ran.out and "older files removed" in ran.out
    assert "is cleaned: it cannot be brought back" in refused("forget", bank, "--undo", "--doc", "fox")
    assert documents(bank) == ["marks", "tokyo"] and nextmem("verify", bank).code == 0


def test_what_cannot_be_forgotten_is_refused_in_a_line(refused, bank, tmp_path):
    assert "has no doc_id 'foxx' at version 1. Did you mean 'fox'?" in refused("forget", bank, "--doc", "foxx")
    assert "has not forgotten 'fox' at version 1" in refused("forget", bank, "--undo", "--doc", "fox")
    assert "is not a memory bank" in refused("forget", tmp_path / "none", "--doc", "fox")
    assert "has no column 'topic' to filter by" in refused("forget", bank, "--where", "topic = food")
    assert documents(bank) == sorted(ARTICLES) and Bank.open(bank).version == 1


@pytest.mark.parametrize(
    "asked", [[], ["--doc", "fox", "--where", "doc_id = fox"], ["--undo", "--where", "doc_id = fox"]]
)
def test_it_must_be_said_which_documents(nextmem, bank, asked):
    assert nextmem("forget", bank, *asked).code == 2 and documents(bank) == sorted(ARTICLES)


def test_the_same_from_python(bank):
    with face.open(bank) as opened:
        assert opened.forget(filter={"doc_id": ["fox", "marks"]}).documents == 2
        assert {hit.doc_id for hit in opened.search("the fox", k=99)} == {"tokyo"}
        assert opened.forget(["fox"], undo=True).documents == 1 and opened.recall(doc_id="fox") == ARTICLES["fox"]
        assert opened.tend(now=True).now and opened.info().forgotten == 1
        for wrong in ({}, {"doc_ids": ["a"], "filter": {"doc_id": "a"}}, {"undo": True, "filter": {"doc_id": "a"}}):
            with pytest.raises(TypeError):
                opened.forget(**wrong)
        with pytest.raises(TypeError, match="give a list of ids, not one id"):
            opened.forget("fox")
        with pytest.raises(face.Refusal, match="an empty filter is true of every one"):
            opened.forget(filter={})
        with pytest.raises(face.NotInBank, match="has no doc_id 'foxx'"):
            opened.forget(["foxx"])
