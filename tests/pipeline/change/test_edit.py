"""Edits: what becomes of the chunk, of the rest of its document, and of a later encode of the corpus."""

from __future__ import annotations

import shutil
import threading

import pyarrow as pa
import pytest
from banks import held
from works import jsonl

from model.codec_io import load_codec
from model.edit import METHODS
from model.refusal import Refusal
from pipeline import schema
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.due import count_due
from pipeline.bank.lookup import NotInBank, by_doc_id
from pipeline.bank.problems import first_problems
from pipeline.change.edit import edit, edit_everywhere, encode_due
from pipeline.change.given import Columns, documents_given
from pipeline.change.remember import remember
from pipeline.change.rewrite import known
from pipeline.corpus.documents import ColumnRoles, document_hash
from pipeline.encode.bank_work import bank_work
from pipeline.plan.plan import plan_corpus
from pipeline.stems import pack, with_whole_words

TEXT = "Anna met Bert at nine. They went to Rome by train, and Anna wrote to Carl from there."  # 3 chunks of 32 bytes
OTHER = "Nobody knows where Carl lives now, or with whom"


@pytest.fixture
def job(works):
    made = works({"trip": TEXT, "carl": OTHER}, metadata={"topic": ["travel", "people"]})
    commit(made.bank, [made.encode().receipt])
    return made


@pytest.fixture
def bank(job):
    return Bank.open(job.bank.folder.uri)


@pytest.fixture
def change(bank, codec):
    """change(position in TEXT, old, new, method=...)."""

    def run(position, old, new, **options):
        rows = by_doc_id(bank, "trip").to_pylist()
        return edit(bank, lambda: codec, rows[position][schema.CHUNK_ID], old, new, **options)

    return run


def rows(bank, doc_id="trip"):
    return by_doc_id(bank, doc_id).to_pylist()


def require_consistent(bank, codec, doc_id, text):
    """The document recalls to the text, its rows tile it, and every hash agrees."""
    assert known(bank, codec, doc_id).text == text
    assert {row[schema.DOC_HASH] for row in rows(bank, doc_id)} == {document_hash(text)}
    assert rows(bank, doc_id)[-1][schema.CHAR_END] == len(text)
    assert first_problems(bank) == [] and bank.count() == sum(held(bank).values())


@pytest.mark.parametrize("method", METHODS)
def test_a_document_recalls_to_the_changed_text_whatever_the_method(bank, codec, change, method):
    before = rows(bank)
    done = change(0, "Bert", "Dora", method=method, steps=2)
    assert (done.documents, [place.char_start for place in done.places]) == (1, [9])
    require_consistent(bank, codec, "trip", TEXT.replace("Bert", "Dora"))
    after = rows(bank)
    assert done.chunk_ids == (after[0][schema.CHUNK_ID],) != (before[0][schema.CHUNK_ID],)
    assert [row[schema.EDITED] for row in after] == [method, None, None]
    same = [schema.CHUNK_ID, schema.CODES, schema.EMBEDDING, schema.PATCH, schema.UNIT, schema.ENCODED_AT, "topic"]
    assert [[row[name] for name in same] for row in after[1:]] == [[row[name] for name in same] for row in before[1:]]
    assert {row[schema.EDITED_FROM] for row in after} == {document_hash(TEXT)}


def test_an_encoded_edit_is_the_row_that_encoding_the_new_text_makes(bank, codec, change):
    change(0, "Bert", "Dora")
    text = TEXT.replace("Bert", "Dora")
    remember(bank, lambda: codec, documents_given(text, Columns(bank.metadata_fields), {}, doc_id="again"))
    same = [schema.CODES, schema.SCALES, schema.PATCH, schema.FIDELITY, schema.TEXT_HASH]
    edited, fresh = rows(bank), rows(bank, "again")
    assert [[row[name] for name in same] for row in edited] == [[row[name] for name in same] for row in fresh]
    for one, other in zip(edited, fresh, strict=True):
        assert one[schema.EMBEDDING] == pytest.approx(other[schema.EMBEDDING], abs=1e-5)  # batches of one and of three


def test_a_patch_leaves_latents_and_embedding_and_is_due_until_it_is_encoded(bank, codec, change):
    before = rows(bank)[0]
    change(0, "Bert", "Dora", method="patch")
    patched = rows(bank)[0]
    kept = [schema.CODES, schema.SCALES, schema.EMBEDDING, schema.ENCODED_AT]
    assert [patched[name] for name in kept] == [before[name] for name in kept]
    assert count_due(bank) == 1 and encode_due(bank, lambda: codec) == 1
    encoded = rows(bank)[0]
    assert encoded[schema.CODES] != before[schema.CODES] and encoded[schema.CHUNK_ID] == patched[schema.CHUNK_ID]
    assert count_due(bank) == encode_due(bank, lambda: codec) == 0
    require_consistent(bank, codec, "trip", TEXT.replace("Bert", "Dora"))


def test_a_text_that_outgrows_its_chunk_becomes_two_and_the_rest_moves_along(bank, codec, change):
    before = rows(bank)
    change(1, "Rome", "the far side of the blue mountains")
    after = rows(bank)
    assert [row[schema.POSITION] for row in after] == [0, 1, 2, 3]
    assert after[3][schema.CODES] == before[2][schema.CODES] and after[3][schema.CHUNK_ID] != before[2][schema.CHUNK_ID]
    require_consistent(bank, codec, "trip", TEXT.replace("Rome", "the far side of the blue mountains"))


def test_a_chunk_without_text_goes_and_a_document_without_is_refused(bank, codec, change):
    first = known(bank, codec, "trip").texts[0]
    change(0, first, "", method="patch")
    require_consistent(bank, codec, "trip", TEXT[len(first) :])
    with pytest.raises(Refusal, match="'trip' would have no text left: forget it instead"):
        edit_everywhere(bank, lambda: codec, TEXT[len(first) :], " ")


def test_words_that_are_not_there_or_there_twice_are_refused_and_say_where(bank, codec, change):
    version = bank.version
    for position, old, said in (
        (0, "Zoe", "'Zoe' does not stand in chunk .* characters 0 to 32.; it stands nowhere else in its document"),
        (0, "Carl", "it stands in its document at 69"),
        (0, "went to", "stands in its document at 28"),  # across the border
        (2, "e", "'e' stands 3 times in chunk .* at 64, 81, 83: give more of the text around it"),
    ):
        with pytest.raises(Refusal, match=said):
            change(position, old, "x")
    with pytest.raises(Refusal, match="has 62 tokens, and a chunk of this codec 1 to 32"):
        change(1, "Rome", "the far side of the blue mountains", method="patch")
    with pytest.raises(Refusal, match="nothing to replace"):
        change(0, "Anna", "Anna")
    with pytest.raises(NotInBank):
        edit(bank, lambda: codec, "0" * 32, "a", "b")
    assert bank.version == version


@pytest.mark.parametrize("method", METHODS)
def test_a_person_is_renamed_everywhere_in_one_commit(bank, codec, method):
    version = bank.version
    listed = edit_everywhere(bank, lambda: codec, "Carl", "Nils", dry_run=True)
    assert (len(listed.places), listed.documents, bank.version) == (2, 2, version)
    assert {place.excerpt for place in listed.places} == {
        "rain, and Anna wrote to Carl from there.",
        "Nobody knows where Carl lives now, or with whom",
    }
    edit_everywhere(bank, lambda: codec, "Carl", "Nils", method=method, steps=1)
    assert bank.version == version + 1
    require_consistent(bank, codec, "trip", TEXT.replace("Carl", "Nils"))
    require_consistent(bank, codec, "carl", OTHER.replace("Carl", "Nils"))
    assert edit_everywhere(bank, lambda: codec, "Carl", "Nils").places == ()


def test_words_across_a_border_are_found_and_a_filter_keeps_to_its_documents(bank, codec):
    assert [len(text) for text in known(bank, codec, "trip").texts] == [32, 32, 21]
    where = pa.compute.field("topic") == "travel"
    done = edit_everywhere(bank, lambda: codec, "to Rome", "home", where=where)
    assert [place.char_start for place in done.places] == [33]
    done = edit_everywhere(bank, lambda: codec, " went home", " stayed", where=where)  # 27 to 37: two chunks
    require_consistent(bank, codec, "trip", TEXT.replace(" went to Rome", " stayed"))
    assert edit_everywhere(bank, lambda: codec, "Carl", "Nils", where=where, dry_run=True).documents == 1


def test_an_encode_of_the_same_corpus_neither_undoes_nor_doubles_an_edit(bank, job, codec, change, tmp_path):
    change(0, "Bert", "Dora")
    remember(
        bank,
        lambda: codec,
        documents_given("Gone away.", Columns(bank.metadata_fields), {}, doc_id="carl"),
        update=True,
    )
    work = bank_work(job.plan, bank)
    assert (work.counts.units, work.counts.held) == (0, 2)
    grown = _plan(tmp_path, {"trip": TEXT, "carl": OTHER, "new": "A third."}, ["travel", "people", "people"])
    assert (bank_work(grown, bank).counts.documents, bank_work(grown, bank).counts.changed) == (1, 0)
    edit_everywhere(bank, lambda: codec, "Dora", "Bert")  # as the corpus has it
    assert {row[schema.EDITED_FROM] for row in rows(bank)} == {None}
    assert bank_work(grown, bank).counts.changed == 0


def test_a_text_that_has_changed_in_the_corpus_takes_the_edited_one_s_place(bank, codec, change, tmp_path):
    change(0, "Bert", "Dora")
    changed = _plan(tmp_path, {"trip": TEXT + " It rained.", "carl": OTHER}, ["travel", "people"])
    assert (bank_work(changed, bank).counts.documents, bank_work(changed, bank).counts.changed) == (1, 1)


def _plan(folder, documents, topics):
    corpus = jsonl(folder / "grown.jsonl", documents, topic=topics)
    return plan_corpus([str(corpus)], ColumnRoles(metadata=("topic",)), unit_chunks=1000, folder=str(folder / "plans"))


def test_words_for_search_follow_the_text(works, codec):
    pytest.importorskip("Stemmer")
    job = works({"trip": TEXT}, keep_words=True)
    commit(job.bank, [job.encode().receipt])
    edit_everywhere(job.bank, lambda: codec, "by train", "on a pony")
    texts = known(job.bank, codec, "trip").texts
    ends = [sum(map(len, texts[: at + 1])) for at in range(len(texts))]
    whole = [with_whole_words("".join(texts), end - len(text), end) for text, end in zip(texts, ends, strict=True)]
    assert [row[schema.STEMS] for row in rows(job.bank)] == [pack(text) for text in whole]


def test_two_edits_of_one_document_at_once_both_stand(bank, codec, tiny_codec_folder):
    codecs = [codec, load_codec(tiny_codec_folder, verifying=codec.verifying, device="cpu")]
    banks = [bank, Bank.open(bank.folder.uri)]
    start = threading.Barrier(2)

    def run(mine, own, old, new):
        start.wait()
        edit_everywhere(mine, lambda: own, old, new)

    words = [("Bert", "Dora"), ("Rome", "Oslo")]
    threads = [
        threading.Thread(target=run, args=(mine, own, *pair))
        for mine, own, pair in zip(banks, codecs, words, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bank.reload()
    require_consistent(bank, codec, "trip", TEXT.replace("Bert", "Dora").replace("Rome", "Oslo"))


def test_a_bank_from_before_there_were_edits_takes_them(articles, tmp_path, codec, monkeypatch):
    from pipeline.bank import create
    from pipeline.bank.metadata import bank_schema

    def without(fields):
        made = bank_schema(fields)
        return pa.schema([field for field in made if field.name not in (schema.EDITED, schema.EDITED_FROM)])

    source = Bank.open(shutil.copytree(articles, tmp_path / "source"))
    with monkeypatch.context() as patch:
        patch.setattr(create, "bank_schema", without)
        old = Bank.create(tmp_path / "old", source.identity)
    remember(old, lambda: codec, documents_given(TEXT, Columns(()), {}, doc_id="trip"))
    assert schema.EDITED not in old.schema.names and encode_due(old, lambda: codec) == 0
    edit_everywhere(old, lambda: codec, "Bert", "Dora", method="patch")
    require_consistent(old, codec, "trip", TEXT.replace("Bert", "Dora"))
    assert encode_due(old, lambda: codec) == 1
