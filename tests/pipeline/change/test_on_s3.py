"""Remember, update and edit on s3://: the same commits, by two writers in turn."""

from __future__ import annotations

import pytest
from banks import held
from works import VERIFYING

from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.identity import codec_identity
from pipeline.bank.lookup import by_doc_id
from pipeline.bank.problems import first_problems
from pipeline.change.edit import edit
from pipeline.change.given import Columns, documents_given
from pipeline.change.remember import remember
from pipeline.change.rewrite import known

pytestmark = pytest.mark.store


def test_notes_are_remembered_updated_and_edited_on_an_object_store(place, codec, tiny_codec_folder):
    uri = f"s3://{place}/bank"
    banks = [Bank.create(uri, codec_identity(tiny_codec_folder, VERIFYING), codec=tiny_codec_folder), Bank.open(uri)]
    for number in range(17):  # the sixteenth joins those before it
        documents = documents_given(f"Note {number} is short.", Columns(()), {}, doc_id=f"note-{number}")
        assert remember(banks[number % 2], lambda: codec, documents).new == 1
    again = documents_given("Note 3 is long.", Columns(()), {}, doc_id="note-3")
    assert remember(banks[0], lambda: codec, again, update=True).replaced == 1
    chunk_id = by_doc_id(banks[0], "note-3").column(schema.CHUNK_ID)[0].as_py()
    edit(banks[0], lambda: codec, chunk_id, "long", "gone")
    bank = Bank.open(uri)
    assert known(bank, codec, "note-3").text == "Note 3 is gone."
    assert len(held(bank)) == 17 and len(bank.files()) <= 3 and first_problems(bank) == []
    assert bank.folder.names("_jobs") == []
