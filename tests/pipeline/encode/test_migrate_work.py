"""A bank as a corpus: recalled exactly, encoded by another codec, without Ray."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from works import ARTICLES, VERIFYING, jsonl

from model.backbone import load_backbone
from model.codec_io import save_codec
from model.config import CodecConfig
from model.refusal import Refusal
from model.untrained import untrained_codec
from pipeline.bank.bank import Bank
from pipeline.bank.carry import carry
from pipeline.bank.commit import add_actions, commit, remove_actions, swap
from pipeline.bank.diff import Diff
from pipeline.bank.forget import forget
from pipeline.bank.identity import codec_identity
from pipeline.bank.opened import load_bank_codec
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import COLUMNS, recall
from pipeline.bank.rejected import rejected
from pipeline.change.edit import edit_everywhere
from pipeline.corpus.documents import ColumnRoles
from pipeline.encode import bank_corpus, encode_work
from pipeline.encode.bank_corpus import plan_bank
from pipeline.encode.bank_work import bank_work
from pipeline.encode.ledger import Ledger
from pipeline.encode.options import EncodeOptions
from pipeline.encode.recall_work import RecallWork
from pipeline.plan.plan import plan_corpus
from pipeline.schema import DOC_ID

NUMBERS = {"year": [1999, None, 2020]}


@pytest.fixture(scope="module")
def new_codec(tmp_path_factory):
    """Other sizes, other latents: chunks of at most 20 bytes, 2 latents."""
    config = CodecConfig(chunk_tokens=20, num_latents=2)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("codec") / "new")


@pytest.fixture
def old(works):
    """Three articles with metadata, in a bank of the tiny codec."""
    made = works(ARTICLES, metadata=NUMBERS)
    commit(made.bank, [made.encode().receipt])
    return made


class Migration:
    """What `nextmem migrate` does, in this process. `run` may be called again and again."""

    def __init__(self, source: Bank, folder, codec, unit_chunks=1000):
        self.source, self.folder, self.unit_chunks = source, folder, unit_chunks
        self.bank = Bank.create(folder / "new", codec_identity(codec, VERIFYING), source.metadata_fields, codec=codec)

    def work(self, **asked):
        self.source.reload()
        self.plan = plan_bank(self.source, unit_chunks=self.unit_chunks, folder=str(self.folder / "plans"))
        return bank_work(self.plan, self.bank, **asked)

    def worker(self):
        columns, source = self.plan.columns, self.source.folder.uri
        options = EncodeOptions(self.bank.folder.uri, self.bank.codec_path, VERIFYING, columns, source=source)
        return RecallWork(options, Ledger(), worker="me")

    def run(self, most=None, **asked):
        """Outcomes of at most so many units, committed."""
        work, made = self.work(**asked), []
        worker = self.worker()
        for unit in list(work.units())[:most]:
            made.append(worker.encode(unit))
            commit(self.bank, [made[-1].receipt])
        return made


@pytest.fixture
def migration(old, tmp_path, new_codec, monkeypatch):
    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    return Migration(old.bank, tmp_path, new_codec)


def texts(bank):
    found = defaultdict(str)
    for row in recall(bank.rows(COLUMNS), load_bank_codec(bank)):
        assert row.exact
        found[row.doc_id] += row.text
    return dict(found)


def metadata(bank):
    return {row[DOC_ID]: (row["year"], row["source"]) for row in pa.table(bank.dataset().to_table()).to_pylist()}


def test_an_edited_document_comes_over_as_one_and_no_encode_of_its_corpus_undoes_it(old, migration, codec):
    edit_everywhere(old.bank, lambda: codec, "quick", "slow!")
    migration.run()
    assert texts(migration.bank)["fox"] == ARTICLES["fox"].replace("quick", "slow!")
    assert migration.work().counts.units == 0
    carry(migration.bank, old.bank)
    assert bank_work(old.plan, migration.bank).counts.units == 0


def test_every_document_comes_over_with_text_hash_and_metadata(old, migration):
    (outcome,) = migration.run()
    assert outcome.receipt.documents == 3 and not outcome.failure
    assert migration.bank.identity.num_latents == 2 and migration.bank.count() > old.bank.count()
    assert texts(migration.bank) == ARTICLES and metadata(migration.bank) == metadata(old.bank)
    assert list(Diff(old.bank, migration.bank)) == [] and first_problems(migration.bank) == []


def test_it_goes_on_where_it_was_killed_and_does_nothing_twice(old, migration):
    migration.unit_chunks = 1
    assert migration.work().counts.units == 3
    (first,) = migration.run(most=1)
    assert migration.work().counts.units == 2
    assert len(migration.run()) == 2 and migration.run() == []
    assert texts(migration.bank) == ARTICLES and first.receipt.unit_id in migration.bank.finished_units()


def test_what_the_old_bank_got_since_comes_next(old, migration, tmp_path):
    migration.run()
    now = ARTICLES | {"fox": "The fox has changed."}
    corpus = jsonl(tmp_path / "corpus.jsonl", now, **NUMBERS)
    plan = plan_corpus([str(corpus)], ColumnRoles(metadata=("year",)), unit_chunks=1000, folder=str(tmp_path / "plan"))
    for unit in bank_work(plan, old.bank).units():
        commit(old.bank, [old.encode(unit).receipt])
    counts = migration.work().counts
    assert (counts.documents, counts.changed, counts.held) == (1, 1, 2)
    migration.run()
    assert texts(migration.bank) == now and list(Diff(old.bank, migration.bank)) == []


def test_a_document_that_does_not_recall_exactly_is_refused_by_name(old, migration):
    """Another text's hash in a row: the document is left out, its neighbours come over."""
    spoil(old.bank, "tokyo", "text_hash", "0" * 32)
    (outcome,) = migration.run()
    assert (outcome.receipt.documents, outcome.receipt.rejected) == (2, 1)
    (left,) = rejected(migration.bank)
    assert left.doc_id == "tokyo" and left.by == "encoder" and "does not recall exactly" in left.reason
    assert set(texts(migration.bank)) == {"fox", "marks"}
    assert migration.run() == []
    (again,) = migration.run(retry_rejected=True)
    assert (again.receipt.documents, again.receipt.rejected) == (0, 1)


def test_chunks_that_are_exact_but_no_longer_the_document_are_refused(old, migration):
    spoil(old.bank, "tokyo", "doc_hash", "0" * 32)
    (outcome,) = migration.run()
    (left,) = rejected(migration.bank)
    assert outcome.receipt.documents == 2 and "together are not the document that was encoded" in left.reason


def spoil(bank, doc_id, column, value):
    """The bank with another value in a column of one document's rows."""
    table = pa.table(bank.dataset().to_table())
    mine = pc.equal(table[DOC_ID], doc_id)
    at, field = table.schema.get_field_index(column), table.schema.field(column)
    table = table.set_column(at, field, pc.if_else(mine, value, table[column]))
    files = list(bank.writer().write_files("spoiled", table.cast(bank.schema).to_batches()))
    assert swap(bank, [*remove_actions(bank.files()), *add_actions(files)], {})


def test_a_document_whose_rows_lie_apart_is_a_unit_of_its_own(old, migration):
    """As after joining files in another order."""
    table = pa.table(old.bank.dataset().to_table()).sort_by([("position", "descending"), (DOC_ID, "ascending")])
    halves = [table.slice(0, 5), table.slice(5)]
    files = [f for half in halves for f in old.bank.writer().write_files("kept", half.to_batches())]
    assert swap(old.bank, [*remove_actions(old.bank.files()), *add_actions(files)], {})
    assert len(migration.run()) == 3
    assert texts(migration.bank) == ARTICLES and first_problems(migration.bank) == []


def test_a_plan_is_made_once_a_version(old, migration, monkeypatch):
    migration.work()
    monkeypatch.setattr(bank_corpus, "_write", lambda *_: pytest.fail("planned again"))
    assert migration.work().counts.documents == 3


def test_an_empty_bank_is_refused(works, tmp_path):
    with pytest.raises(Refusal, match="holds no documents"):
        plan_bank(works(ARTICLES).bank, unit_chunks=8, folder=str(tmp_path / "plans"))


def test_a_rerun_of_the_corpus_on_the_new_bank_encodes_nothing(old, migration, tmp_path):
    """Nor does it bring back what the old one has forgotten."""
    forget(old.bank, ["fox"])
    migration.run()
    assert carry(migration.bank, old.bank) > 0 and carry(migration.bank, old.bank) == 0
    counts = bank_work(old.plan, migration.bank).counts
    assert (counts.units, counts.documents, counts.held, counts.forgotten) == (0, 0, 2, 1)


def test_what_is_forgotten_after_it_came_over_leaves_with_its_tombstone(old, migration):
    migration.run()
    forget(old.bank, ["tokyo"])
    assert migration.run() == [] and carry(migration.bank, old.bank) > 0
    assert set(texts(migration.bank)) == {"fox", "marks"} and migration.bank.forgotten().among(["tokyo"])


def test_a_unit_whose_file_is_gone_fails_and_is_named(old, migration):
    work = migration.work()
    (unit,) = work.units()
    worker = migration.worker()
    for name in old.bank.files():
        old.bank.folder.remove(name)
    failure = worker.encode(unit).failure
    assert failure.unit_id == unit.unit_id and "part-" in failure.reason
