"""history, diff and restore as commands and from Python."""

from __future__ import annotations

import shutil

import pytest

import nextmem as face
from pipeline.bank.commit import add_actions, remove_actions, swap
from pipeline.bank.opened import open_bank
from pipeline.bank.replace import without_documents


@pytest.fixture
def bank(articles, tmp_path):
    """Of three articles, one of which left in version 2, as an edit gone wrong may leave it."""
    folder = shutil.copytree(articles, tmp_path / "bank")
    table = open_bank(str(folder))
    removed, kept = without_documents(table, {"fox"})
    assert swap(table, [*remove_actions(removed), *add_actions(kept)], {"by": "edit", "documents": 1})
    return folder


def test_history_lists_versions(nextmem, bank):
    lines = nextmem("history", bank).out.splitlines()
    assert lines[0].split() == ["version", "time", "(UTC)", "done", "documents", "chunks", "change"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2"]
    assert [line.split()[3] for line in lines[1:]] == ["make", "encode", "edit"]
    records = nextmem("history", bank, "--json").records
    assert records[1]["noted"]["documents"] == 3 and records[2]["change"] == records[2]["chunks"] - records[1]["chunks"]


def test_diff_prints_counts_then_ids(nextmem, bank):
    assert nextmem("diff", bank, 1, 2).out == "0 added, 0 changed, 1 gone, from version 1 to 2\n- fox\n"
    counts, change = nextmem("diff", bank, 2, 1, "--json").records
    assert counts == {"event": "counts", "old": 2, "new": 1, "added": 1, "changed": 0, "gone": 0, "files": 2}
    assert change == {"doc_id": "fox", "change": "added"}


def test_restore_brings_a_document_back_to_be_recalled(nextmem, bank):
    out = nextmem("restore", bank, "--version", 1).out
    assert "version 3, as version 1 was" in out and "1 came back, 1 left the table" in out
    with face.open(bank) as opened:
        assert opened.recall(doc_id="fox").startswith("The quick brown fox")
        assert (opened.diff(2).added, opened.diff(1).gone) == (1, 0)


def test_a_bank_opens_as_it_was(bank):
    with face.open(bank) as opened:
        encoded, deleted = (each.time for each in opened.history()[1:])
    with face.open(bank, version=1) as opened:
        assert opened.recall(doc_id="fox").startswith("The quick")
    with face.open(bank, time=encoded) as opened:
        assert opened.version == 1
    with face.open(bank, time=deleted.isoformat()) as opened, pytest.raises(face.NotInBank):
        opened.recall(doc_id="fox")


def test_refusals_are_one_line(nextmem, refused, bank):
    assert "no version 9 yet: its newest is 2" in refused("restore", bank, "--version", 9)
    assert "no version 9 yet" in refused("diff", bank, 1, 9)
    assert "lies in the future" in refused("restore", bank, "--time", "2999-01-01")
    assert "is no time: wanted ISO 8601" in refused("restore", bank, "--time", "noon")
    assert "is not a memory bank" in refused("history", bank.parent)
    assert nextmem("restore", bank).code == 2
