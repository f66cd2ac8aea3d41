"""What the two workers do with a unit, without Ray: rows, rejections, failures. A byte is a token, 32 a chunk."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from works import jsonl

from model.tokens import TextTokenizer
from pipeline import outcome as outcome_module
from pipeline.bank import Bank
from pipeline.check import verify
from pipeline.commit import Receipt, commit
from pipeline.decode import recall
from pipeline.outcome import ChunkedUnit, Failure
from pipeline.rejected import rejected

TEXTS = {
    "fox": "The quick brown fox jumps over the dog, twice.",
    "hi": "Hi.",
    "tokyo": "東京は日本の首都です。" * 3,
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(outcome_module, "WAIT_SECONDS", 0)


def committed(works, *outcomes):
    """The bank a reader opens after these outcomes were committed."""
    commit(works.bank, [outcome.receipt for outcome in outcomes])
    bank = Bank.open(works.bank.folder.uri)
    assert verify(bank) == []
    return bank


def texts(bank, codec):
    """{doc_id: text} through recall; every row must be exact."""
    found: dict[str, str] = {}
    for row in recall(bank.rows(), codec):
        assert row.exact
        found[row.doc_id] = found.get(row.doc_id, "") + row.text
    return found


def raise_on(monkeypatch, codec, text, error):
    """Encoding a batch that holds a chunk with this text raises, as a poisonous document would."""
    memorise, token_ids = codec.memorise, codec.tokenizer.encode(text)

    def memorise_or_raise(chunks, *, verify):
        if any(list(chunk) == token_ids for chunk in chunks):
            raise error
        return memorise(chunks, verify=verify)

    monkeypatch.setattr(codec, "memorise", memorise_or_raise)


def test_a_unit_becomes_a_file_and_a_receipt_and_is_invisible_until_committed(works, codec):
    job = works(TEXTS)
    done = job.encode()
    assert (done.receipt.documents, done.receipt.chunks, done.receipt.rejected) == (3, 2 + 1 + 4, 0)
    assert done.receipt.tokens == sum(len(text.encode()) for text in TEXTS.values())
    assert done.failure is None and done.worker == "me" and done.numbers["encode_seconds"] > 0
    assert [job.bank.folder.size(file.path) for file in done.receipt.files] == [f.size for f in done.receipt.files]
    assert Bank.open(job.bank.folder.uri).count() == 0
    assert texts(committed(job, done), codec) == TEXTS


def test_a_chunk_never_ends_inside_a_character(works):
    job = works({"tokyo": TEXTS["tokyo"]})
    ends = job.read().chunks["char_end"].to_pylist()
    assert ends == [10, 20, 30, 33]  # 3 bytes a character: 30 of the 32 that a chunk may have


def test_a_unit_may_hold_many_documents(works, codec):
    many = {f"doc-{n:03}": f"Document number {n}." for n in range(300)}
    job = works(many)
    assert len(job.units) == 1
    assert texts(committed(job, job.encode()), codec) == many


def test_metadata_columns_are_carried(works):
    job = works(TEXTS, metadata={"lang": ["en", "en", "ja"], "year": [1990, 2000, None]})
    bank = committed(job, job.encode())
    rows = [row for batch in bank.rows(["doc_id", "lang", "year"]) for row in batch.to_pylist()]
    assert {row["doc_id"]: (row["lang"], row["year"]) for row in rows} == {
        "fox": ("en", 1990),
        "hi": ("en", 2000),
        "tokyo": ("ja", None),
    }


def test_text_is_kept_only_when_asked_for(works):
    assert set(works(TEXTS).read().chunks["text"].to_pylist()) == {None}


def test_keep_text_stores_each_chunk_s_text(works, codec):
    job = works(TEXTS, keep_text=True)
    rows = [row for batch in committed(job, job.encode()).rows(["doc_id", "text"]) for row in batch.to_pylist()]
    assert "".join(row["text"] for row in rows if row["doc_id"] == "fox") == TEXTS["fox"]


def test_no_verify_leaves_fidelity_and_patch_null(works):
    job = works(TEXTS, verify=False)
    rows = [row for batch in committed(job, job.encode()).rows(["fidelity", "patch"]) for row in batch.to_pylist()]
    assert {(row["fidelity"], row["patch"]) for row in rows} == {(None, None)}


def test_text_that_the_tokenizer_cannot_give_back_is_kept_and_recalled_exactly(works, codec, monkeypatch):
    job = works(TEXTS)
    decode = TextTokenizer.decode
    monkeypatch.setattr(TextTokenizer, "decode", lambda self, ids: decode(self, ids).lower())  # as an uncased one would
    bank = committed(job, job.encode())
    assert texts(bank, codec) == TEXTS
    kept = [row["text"] for batch in bank.rows(["text"]) for row in batch.to_pylist() if row["text"]]
    assert "".join(kept) == TEXTS["fox"][:32] + "Hi."  # the other chunks have no capitals


def test_a_document_whose_tokens_are_all_dropped_is_kept_as_text(works, codec, monkeypatch):
    job, cut, nothing = works(TEXTS), TextTokenizer._cut, np.empty(0, dtype=np.int32)
    monkeypatch.setattr(
        TextTokenizer,
        "_cut",
        lambda self, text, limit: iter([(0, 3, nothing)]) if text == "Hi." else cut(self, text, limit),
    )
    assert texts(committed(job, job.encode()), codec) == TEXTS


def test_a_document_that_cannot_be_encoded_is_found_and_rejected_alone(works, codec, monkeypatch):
    many = {f"doc-{n}": f"Document number {n}." for n in range(10)}
    job = works(many)
    raise_on(monkeypatch, job.encoder.memoriser.codec, many["doc-6"], RuntimeError("the kernel\ndoes not like it"))
    done = job.encode()
    assert (done.receipt.documents, done.receipt.rejected) == (9, 1)
    bank = committed(job, done)
    del many["doc-6"]
    assert texts(bank, codec) == many
    left_out = list(rejected(bank))
    assert [(r.doc_id, r.source) for r in left_out] == [("doc-6", "corpus.jsonl:7")]
    assert left_out[0].reason == "encoding it failed: RuntimeError: the kernel does not like it"
    assert left_out[0].excerpt == "Document number 6."


def test_a_lost_device_rejects_nobody(works, monkeypatch):
    job = works(TEXTS)
    raise_on(monkeypatch, job.encoder.memoriser.codec, "Hi.", torch.AcceleratorError("CUDA error: unspecified"))
    with pytest.raises(torch.AcceleratorError):
        job.encode()
    job.ledger.begin(job.units[0].unit_id, 3)  # the next worker's attempt: the crash is on the record
    assert list(rejected(job.bank)) == []


def test_a_unit_that_was_done_by_a_worker_that_died_afterwards_is_not_encoded_again(works, monkeypatch):
    job = works(TEXTS)
    done = job.encode()
    raise_on(monkeypatch, job.encoder.memoriser.codec, "Hi.", AssertionError("encoded again"))
    assert job.encode() == done


def test_a_unit_that_another_job_has_committed_meanwhile_is_not_encoded(works, monkeypatch):
    job = works(TEXTS)
    encoder = job.encoder  # its bank is opened here, before the other job's commit
    commit(Bank.open(job.bank.folder.uri), [Receipt(job.units[0].unit_id)])
    monkeypatch.setattr(encoder.memoriser, "memorise", lambda *_: pytest.fail("encoded"))
    done = job.encode()
    assert done.elsewhere and done.failure is None
    assert commit(job.bank, [done.receipt]).known == (job.units[0].unit_id,)


def test_rejected_records_are_listed_beside_the_bank_with_source_and_reason(works, tmp_path):
    job = works({"good": "Good.", "empty": "", "blank": " \n"})
    bank = committed(job, job.encode())
    assert {r.doc_id: (r.source, r.reason) for r in rejected(bank)} == {
        "empty": ("corpus.jsonl:2", "text is empty or only white space"),
        "blank": ("corpus.jsonl:3", "text is empty or only white space"),
    }


def test_a_unit_of_nothing_but_rejected_records_is_finished_without_rows(works):
    job = works({"empty": "", "blank": " "})
    done = job.encode()
    assert (done.receipt.files, done.receipt.rejected) == ((), 2)
    bank = committed(job, done)
    assert bank.count() == 0 and bank.is_finished(done.receipt.unit_id)


def test_a_document_that_ended_its_worker_twice_is_left_out_and_says_so(works, codec):
    job = works(TEXTS)
    unit = job.units[0].unit_id
    for _ in range(10):  # workers that die whenever they come to the second document
        ranges, _left_out = job.ledger.begin(unit, 3)
        for first, last in ranges:
            job.ledger.trying(unit, first, last)
            if first <= 1 < last:
                break
        else:
            break
    bank = committed(job, job.encode())
    assert texts(bank, codec) == {doc_id: text for doc_id, text in TEXTS.items() if doc_id != "hi"}
    assert [(r.doc_id, r.reason) for r in rejected(bank)] == [
        ("hi", "encoding it ended its worker twice: it is left out")
    ]


def test_a_full_disk_is_fatal_at_once_and_there_is_no_receipt(works, monkeypatch):
    job = works(TEXTS)
    tries = []

    def full(unit_id, rows):
        tries.append(unit_id)
        raise OSError(errno.ENOSPC, "No space left on device", "/bank/part.parquet")

    monkeypatch.setattr(job.encoder.writer, "write", full)
    done = job.encode()
    assert done.receipt is None
    assert done.failure == Failure(job.units[0].unit_id, "/bank/part.parquet: No space left on device", fatal=True)
    assert len(tries) == 1


def test_storage_that_fails_now_and_then_is_tried_again(works, monkeypatch):
    job = works(TEXTS)
    write, tries = job.encoder.writer.write, []

    def shaky(unit_id, rows):
        tries.append(unit_id)
        if len(tries) < 3:
            raise OSError(errno.EIO, "Input/output error")
        return write(unit_id, rows)

    monkeypatch.setattr(job.encoder.writer, "write", shaky)
    assert job.encode().receipt.documents == 3


def test_storage_that_goes_on_failing_is_a_failure_of_this_unit_alone(works, monkeypatch):
    job = works(TEXTS)
    monkeypatch.setattr(job.encoder.writer, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    done = job.encode()
    assert done.failure == Failure(job.units[0].unit_id, "I/O error", fatal=False)


def test_an_input_that_changed_since_it_was_planned_is_a_failure_that_names_the_file(works, tmp_path):
    job = works(TEXTS)
    jsonl(tmp_path / "corpus.jsonl", TEXTS | {"hi": "Ho."})
    failure = job.read()
    assert isinstance(failure, Failure) and not failure.fatal
    assert f"{tmp_path}/corpus.jsonl changed since it was planned" in failure.reason
    assert job.encoder.encode(failure).failure is failure


def test_an_input_that_is_gone_is_a_failure_that_names_the_file(works, tmp_path):
    job = works(TEXTS)
    (tmp_path / "corpus.jsonl").unlink()
    failure = job.read()
    assert isinstance(failure, Failure) and "corpus.jsonl" in failure.reason


def test_a_reader_hands_on_token_ids_and_where_each_document_begins(works):
    unit = works(TEXTS).read()
    assert isinstance(unit, ChunkedUnit)
    assert unit.starts == (0, 2, 3, 7)
    assert set(unit.chunks["text"].to_pylist()) == {None}
