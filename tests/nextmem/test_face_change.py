"""remember, update, edit and tend's part in them, from Python."""

from __future__ import annotations

import shutil

import pytest
from works import ARTICLES, jsonl

import nextmem

GEESE = "Geese fly south in a wedge before the first frost."
FOX = ARTICLES["fox"]


@pytest.fixture
def bank(articles, tmp_path):
    with nextmem.open(shutil.copytree(articles, tmp_path / "bank")) as opened:
        yield opened


def test_what_is_remembered_is_found_at_once_here_and_elsewhere(bank):
    with nextmem.open(bank.path) as other:
        done = bank.remember(GEESE, doc_id="geese")
        assert (done.new, done.chunks, done.doc_ids, done.version) == (1, 2, ("geese",), bank.version)
        assert bank.search(GEESE[:32], k=1)[0].doc_id == "geese"
        assert bank.recall(doc_id="geese") == GEESE
        other.reload()
        assert other.recall(doc_id="geese") == GEESE and other.verify().whole


def test_several_texts_and_records_come_in_one_commit(bank):
    version = bank.version
    done = bank.remember([GEESE, {"doc_id": "mice", "text": "Mice stay."}])
    assert (done.new, done.version, len(done.doc_ids)) == (2, version + 1, 2)
    assert bank.remember([GEESE, {"doc_id": "mice", "text": "Mice stay."}]).held == 2


def test_files_are_remembered_and_updated(bank, tmp_path):
    path = jsonl(tmp_path / "more.jsonl", {"geese": GEESE, "fox": "A fox."})
    with pytest.raises(nextmem.Refusal, match="'fox' with another text"):
        bank.remember_files(path)
    done = bank.remember_files(path, update=True)
    assert (done.new, done.replaced) == (1, 1) and bank.recall(doc_id="fox") == "A fox."


def test_a_document_that_is_not_there_cannot_be_updated(bank):
    bank.update("fox", "A fox.")
    assert bank.recall(doc_id="fox") == "A fox."
    with pytest.raises(nextmem.NotInBank, match=r"has no doc_id 'foxes' .* Did you mean 'fox'"):
        bank.update("foxes", "Foxes.")


def test_an_edited_chunk_is_recalled_changed_and_tend_encodes_what_was_patched(bank):
    (row,) = [row for row in bank.recalled(doc_id="fox") if "brown" in row.text]
    latents = bank.latents([row.chunk_id]).values
    (chunk_id,) = bank.edit(row.chunk_id, "brown", "white", method="patch").chunk_ids
    assert bank.recall(doc_id="fox") == FOX.replace("brown", "white")
    assert bank.latents([chunk_id]).values.equal(latents)
    assert bank.tend(dry_run=True).encoded == 1 and bank.tend().encoded == 1
    assert not bank.latents([chunk_id]).values.equal(latents)
    assert bank.tend(dry_run=True).encoded == 0 and bank.verify().whole


def test_words_are_replaced_wherever_they_stand(bank):
    told = []
    done = bank.edit_everywhere("fox", "cat", on_progress=lambda done, of: told.append((done, of)))
    assert len(done.places) == 1 and told[-1] == (len(bank), len(bank))
    assert bank.recall(doc_id="fox") == FOX.replace("fox", "cat")
    with pytest.raises(nextmem.Refusal, match="steps is 0"):
        bank.edit_everywhere("cat", "fox", method="refine", steps=0)
