"""`nextmem remember` and `nextmem edit`: what is printed, what is refused in a line, what is a usage error."""

from __future__ import annotations

import shutil

import pytest
from click.testing import CliRunner
from works import ARTICLES, jsonl

from nextmem.cli import main
from pipeline.bank.bank import Bank

GEESE = "Geese fly south in a wedge before the first frost."


@pytest.fixture
def bank(articles, tmp_path):
    return shutil.copytree(articles, tmp_path / "bank")


def test_a_text_is_remembered_and_found(nextmem, bank):
    ran = nextmem("remember", bank, GEESE, "--id", "geese")
    assert ran.code == 0 and "1 new, 0 held already, 0 replaced" in ran.out and "2 chunks" in ran.out
    assert nextmem("recall", bank, "--doc", "geese").out == GEESE
    (record,) = nextmem("remember", bank, GEESE, "--id", "geese", "--json").records
    assert (record["new"], record["held"], record["doc_ids"]) == (0, 1, ["geese"])


def test_what_is_piped_in_is_remembered(bank):
    done = CliRunner().invoke(main, ["remember", str(bank), "-", "--id", "geese"], input=GEESE)
    assert done.exit_code == 0 and "1 new" in done.stdout


def test_files_come_after_two_dashes(nextmem, refused, bank, tmp_path):
    (tmp_path / "note.md").write_text(GEESE)
    corpus = jsonl(tmp_path / "more.jsonl", {"fox": "A fox."})
    assert "1 new" in nextmem("remember", bank, "--", tmp_path / "note.md").out
    assert "'fox' with another text" in refused("remember", bank, "--", corpus)
    assert "1 replaced" in nextmem("remember", bank, "--update", "--", corpus).out
    assert "does not exist" in refused("remember", bank, "--", tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one TEXT in quotes"),
        (("one", "two"), "give one TEXT in quotes"),
        (("--id", "x", "--", "a.txt"), "--id names one TEXT"),
        (("text", "--update"), "--update needs the --id"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(nextmem, bank, arguments, said):
    ran = nextmem("remember", bank, *arguments)
    assert ran.code == 2 and said in ran.err


def test_a_column_that_is_not_there_and_a_bank_that_is_not_there_are_refused(refused, bank, tmp_path):
    assert "no column of the user's own named 'topic'; it has none" in refused(
        "remember", bank, GEESE, "--column", "topic=birds"
    )
    assert "wanted KEY=VALUE" in refused("remember", bank, GEESE, "--column", "topic")
    assert "is not a memory bank" in refused("remember", tmp_path / "nowhere", GEESE)


def test_words_of_a_chunk_are_replaced(nextmem, refused, bank):
    first = next(row for row in nextmem("recall", bank, "--doc", "fox", "--json").records if row["position"] == 0)
    ran = nextmem("edit", bank, "--id", first["chunk_id"], "--replace", "brown", "white", "--method", "patch")
    assert ran.code == 0 and "1 place in 1 document" in ran.out and "1 chunk by patch" in ran.out
    assert nextmem("recall", bank, "--doc", "fox").out == ARTICLES["fox"].replace("brown", "white")
    assert "has no chunk_id" in refused("edit", bank, "--id", first["chunk_id"], "--replace", "brown", "white")
    assert "1 chunk that an edit has patched would be encoded" in nextmem("tend", bank, "--dry-run").out
    assert "1 chunk that an edit has patched encoded" in nextmem("tend", bank).out


def test_places_are_listed_first_and_then_changed(nextmem, bank):
    version = Bank.open(bank).version
    listed = nextmem("edit", bank, "--all", "--replace", "fox", "cat", "--dry-run")
    assert "fox [16]\n    The quick brown fox jumps" in listed.out and "would be edited" in listed.out
    assert Bank.open(bank).version == version
    (record,) = nextmem("edit", bank, "--where", "doc_id=fox", "--replace", "fox", "cat", "--json").records
    assert len(record["places"]) == 1 and len(record["chunk_ids"]) == 1
    assert "nothing: the words stand nowhere" in nextmem("edit", bank, "--all", "--replace", "fox", "cat").out


def test_an_edit_says_where(nextmem, bank):
    for arguments in ((), ("--all", "--where", "doc_id=fox"), ("--id", "x", "--dry-run")):
        assert nextmem("edit", bank, "--replace", "a", "b", *arguments).code == 2
