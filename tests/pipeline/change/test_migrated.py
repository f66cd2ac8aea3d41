"""An edited document in a bank that is encoded anew by another codec: it comes over as edited, and stays so."""

from __future__ import annotations

import pytest
from works import ARTICLES, VERIFYING

from pipeline.bank.bank import Bank
from pipeline.bank.carry import carry
from pipeline.bank.commit import commit
from pipeline.bank.identity import codec_identity
from pipeline.change.edit import edit_everywhere
from pipeline.change.rewrite import known
from pipeline.encode import encode_work
from pipeline.encode.bank_corpus import plan_bank
from pipeline.encode.bank_work import bank_work
from pipeline.encode.ledger import Ledger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.recall_work import RecallWork


@pytest.fixture
def old(works):
    made = works(ARTICLES)
    commit(made.bank, [made.encode().receipt])
    return made


def test_an_edited_document_is_migrated_as_it_is_and_no_encode_of_its_corpus_undoes_it(
    old, codec, tiny_codec_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    edit_everywhere(old.bank, lambda: codec, "quick", "slow!")
    new = Bank.create(tmp_path / "new", codec_identity(tiny_codec_folder, VERIFYING), codec=tiny_codec_folder)
    plan = plan_bank(old.bank, unit_chunks=1000, folder=str(tmp_path / "plans"))
    options = EncodeOptions(new.folder.uri, new.codec_path, VERIFYING, plan.columns, source=old.bank.folder.uri)
    worker = RecallWork(options, Ledger(), worker="me")
    commit(new, [worker.encode(unit).receipt for unit in bank_work(plan, new).units()])
    assert known(new, codec, "fox").text == ARTICLES["fox"].replace("quick", "slow!")
    assert bank_work(plan, new).counts.units == 0  # the migration has nothing left to do
    carry(new, old.bank)
    assert bank_work(old.plan, new).counts.units == 0  # nor has an encode of the corpus that the old bank is of
