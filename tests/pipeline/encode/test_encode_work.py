"""What the two workers do with a unit, without Ray: rows, rejections, failures. A byte is a token, 32 a chunk."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from works import jsonl

from model.codec import Codec
from model.tokens import TextTokenizer
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.problems import first_problems
from pipeline.bank.recall import recall
from pipeline.bank.rejected import rejected
from pipeline.corpus.documents import ENCODER
from pipeline.encode import outcome as outcome_module
from pipeline.encode.bank_work import bank_work
from pipeline.encode.encode_work import EncodeWork, WornOutError
from pipeline.encode.ledger import Ledger
from pipeline.encode.outcome import ChunkedUnit, Failure

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
    assert first_problems(bank) == []
    return bank


def texts(bank, codec):
    """{doc_id: text} through recall; every row must be exact."""
    found: dict[str, str] = {}
    for row in recall(bank.rows(), codec):
        assert row.exact
        found[row.doc_id] = found.get(row.doc_id, "") + row.text
    return found


def break_encoder(monkeypatch, errors):
    """Encoding a batch that holds a chunk of one of these texts raises the text's error, in every encoder from now on.

    Texts are of one chunk. `None` stands for every text.
    """
    memorise = Codec.memorise

    def memorise_or_raise(self, chunks, *, verify):
        for text, error in errors.items():
            if text is None or any(list(chunk) == self.tokenizer.encode(text) for chunk in chunks):
                raise error
        return memorise(self, chunks, verify=verify)

    monkeypatch.setattr(Codec, "memorise", memorise_or_raise)


def left_out(bank):
    return {found.doc_id: found.reason for found in rejected(bank)}


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


TEN = {f"doc-{n}": f"Document number {n}." for n in range(10)}


def test_a_machine_s_fault_rejects_nobody_and_the_unit_is_not_finished(works, monkeypatch, codec):
    """Whatever it raises: were it the documents' fault, some of them would pass."""
    job = works(TEN)
    with monkeypatch.context() as patch:
        break_encoder(patch, {None: RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED")})
        for _ in range(4):
            done = job.encode()
            assert done.receipt is None and not done.failure.fatal
            assert "documents 'doc-0' and 'doc-1' failed alike: RuntimeError: CUDA error" in done.failure.reason
            job.another_process()
    assert list(rejected(job.bank)) == [] and not Bank.open(job.bank.folder.uri).is_finished(job.units[0].unit_id)
    assert texts(committed(job, job.encode()), codec) == TEN  # mended, it encodes them all


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
        FloatingPointError("latents are not finite"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_storage_and_numbers_are_the_machine_s_also_where_one_document_provokes_them(works, monkeypatch, error):
    job = works(TEN)
    break_encoder(monkeypatch, {TEN["doc-6"]: error})
    for _ in range(3):
        done = job.encode()
        assert type(error).__name__ in done.failure.reason and done.failure.fatal == isinstance(error, ArithmeticError)
        job.another_process()
    assert list(rejected(job.bank)) == []


def test_a_document_that_fails_alone_in_two_processes_is_rejected_alone(works, codec, monkeypatch):
    job = works(TEN)
    break_encoder(monkeypatch, {TEN["doc-6"]: RuntimeError("the kernel\ndoes not like it, at 0x7f3a")})
    first = job.encode()
    assert first.failure.reason == (
        "'doc-6' failed alone, which is not proof yet: RuntimeError: the kernel does not like it, at 0x7f3a"
    )
    job.another_process()
    done = job.encode()
    assert (done.receipt.documents, done.receipt.rejected) == (9, 1)
    bank = committed(job, done)
    assert texts(bank, codec) == {doc_id: text for doc_id, text in TEN.items() if doc_id != "doc-6"}
    (found,) = rejected(bank)
    assert (found.doc_id, found.source, found.by) == ("doc-6", "corpus.jsonl:7", ENCODER)
    assert found.reason == "encoding it failed: RuntimeError: the kernel does not like it, at 0x7f3a"
    assert found.excerpt == "Document number 6."


def test_a_document_that_fails_once_and_passes_elsewhere_is_encoded(works, codec, monkeypatch):
    job = works(TEN)
    with monkeypatch.context() as patch:
        break_encoder(patch, {TEN["doc-6"]: RuntimeError("a bit fell over")})
        assert job.encode().receipt is None
    job.another_process()
    assert texts(committed(job, job.encode()), codec) == TEN


def test_failing_in_another_way_elsewhere_is_no_proof(works, monkeypatch):
    job = works(TEN)
    for words in ("a bit fell over", "it is too hot in here"):
        with monkeypatch.context() as patch:
            break_encoder(patch, {TEN["doc-6"]: RuntimeError(words)})
            assert "not proof yet" in job.encode().failure.reason
        job.another_process()


def test_several_bad_documents_with_errors_of_their_own_are_each_rejected_alone(works, codec, monkeypatch):
    job = works(TEN)
    bad = {"doc-0": IndexError("token 9"), "doc-6": RuntimeError("rope"), "doc-9": KeyError("mask")}
    break_encoder(monkeypatch, {TEN[doc_id]: error for doc_id, error in bad.items()})
    assert "'doc-0', 'doc-6', 'doc-9' failed alone" in job.encode().failure.reason
    job.another_process()
    bank = committed(job, job.encode())
    assert texts(bank, codec) == {doc_id: text for doc_id, text in TEN.items() if doc_id not in bad}
    assert left_out(bank) == {
        "doc-0": "encoding it failed: IndexError: token 9",
        "doc-6": "encoding it failed: RuntimeError: rope",
        "doc-9": "encoding it failed: KeyError: 'mask'",
    }


def test_two_unlike_documents_that_fail_alike_are_the_machine_s_fault(works, monkeypatch):
    job = works(TEN)
    break_encoder(monkeypatch, {TEN[name]: RuntimeError(f"kernel failed at {name}") for name in ("doc-2", "doc-6")})
    for _ in range(3):
        assert "documents 'doc-2' and 'doc-6' failed alike" in job.encode().failure.reason
        job.another_process()


def test_two_copies_of_one_text_that_fail_alike_are_not(works, monkeypatch):
    job = works(TEN | {"copy": TEN["doc-6"]})
    break_encoder(monkeypatch, {TEN["doc-6"]: RuntimeError("rope")})
    assert "'doc-6', 'copy' failed alone" in job.encode().failure.reason
    job.another_process()
    assert set(left_out(committed(job, job.encode()))) == {"doc-6", "copy"}


def test_a_unit_of_one_document_that_fails_is_no_proof(works, monkeypatch):
    job = works({"hi": "Hi."})
    break_encoder(monkeypatch, {None: IndexError("token 9")})
    for _ in range(3):
        assert job.encode().failure.reason == "none of its 1 documents could be encoded: IndexError: token 9"
        job.another_process()


def test_a_process_does_not_try_again_what_it_failed_at(works, monkeypatch):
    job = works(TEN)
    break_encoder(monkeypatch, {TEN["doc-6"]: RuntimeError("rope")})
    job.encode()
    with pytest.raises(WornOutError):
        job.encode()
    job.another_process()
    assert job.encode().receipt is not None


def test_a_process_that_failed_at_two_units_in_a_row_takes_no_third(works, monkeypatch):
    job = works(TEN, unit_chunks=2)
    break_encoder(monkeypatch, {None: RuntimeError("the device is worn out")})
    for unit in job.units[:2]:
        assert job.encode(unit).failure is not None
    with pytest.raises(WornOutError):
        job.encode(job.units[2])


def test_a_document_that_cannot_be_tokenized_is_rejected_alone(works, codec, monkeypatch):
    bad = {"doc-3": "an odd character", "doc-7": "an odd character"}
    tokenize_or_raise(monkeypatch, {TEN[name]: ValueError(words) for name, words in bad.items()})
    job = works(TEN)
    bank = committed(job, job.encode())
    assert texts(bank, codec) == {doc_id: text for doc_id, text in TEN.items() if doc_id not in bad}
    assert left_out(bank) == {name: f"tokenizing it failed: {words}" for name, words in bad.items()}


def test_a_tokenizer_that_takes_nothing_is_the_machine_s_fault(works, monkeypatch):
    tokenize_or_raise(monkeypatch, {text: ValueError("no vocabulary") for text in TEN.values()})
    failure = works(TEN).read()
    assert failure.reason == "none of its 10 documents could be encoded: tokenizing it failed: no vocabulary"


def test_an_error_of_the_tokenizer_s_library_fails_the_unit_and_rejects_nobody(works, monkeypatch):
    tokenize_or_raise(monkeypatch, {TEN["doc-3"]: Exception("poisoned lock")})
    assert works(TEN).read().reason == "tokenizing corpus.jsonl:4 failed: Exception: poisoned lock"


def tokenize_or_raise(monkeypatch, errors):
    cut = TextTokenizer.chunks

    def chunks(self, text, limit):
        if text in errors:
            raise errors[text]
        return cut(self, text, limit)

    monkeypatch.setattr(TextTokenizer, "chunks", chunks)


def test_another_writer_of_a_unit_does_not_take_away_what_was_committed(works, monkeypatch):
    job = works(TEN)
    with monkeypatch.context() as patch:
        tokenize_or_raise(patch, {TEN["doc-3"]: ValueError("an odd character")})
        bank = committed(job, job.encode())
    second = EncodeWork(job.options, Ledger(), worker="late")
    second._is_committed = lambda unit_id: False  # it looked before the first one's commit
    late = second.encode(job.read()).receipt
    assert (late.rejected, commit(bank, [late]).units) == (0, ())
    assert set(left_out(bank)) == {"doc-3"}


def test_a_list_that_was_never_committed_says_nothing(works, monkeypatch):
    job = works(TEN)
    with monkeypatch.context() as patch:
        tokenize_or_raise(patch, {TEN["doc-3"]: ValueError("an odd character")})
        EncodeWork(job.options, Ledger(), worker="died").encode(job.read())
    assert left_out(committed(job, job.encode())) == {}


def test_what_encoders_rejected_is_planned_again_and_what_readers_rejected_is_not(works, monkeypatch, codec):
    job = works(TEN | {"blank": " "})
    with monkeypatch.context() as patch:
        tokenize_or_raise(patch, {TEN["doc-3"]: ValueError("odd"), TEN["doc-5"]: ValueError("odd")})
        bank = committed(job, job.encode())
        assert bank_work(job.plan, bank).counts.units == 0
        work = bank_work(job.plan, bank, retry_rejected=True)
        assert (work.counts.units, work.counts.documents, work.counts.held, work.counts.rejected) == (1, 2, 8, 0)
        assert "none of its 2 documents" in job.encode(next(work.units())).failure.reason  # in vain: as it was before
        assert set(left_out(bank)) == {"doc-3", "doc-5", "blank"}
    with monkeypatch.context() as patch:
        tokenize_or_raise(patch, {TEN["doc-5"]: ValueError("odd")})
        bank = committed(job, job.encode(next(work.units())))
        assert set(left_out(bank)) == {"doc-5", "blank"} and bank_work(job.plan, bank).counts.held == 9
    work = bank_work(job.plan, bank, retry_rejected=True)
    bank = committed(job, job.encode(next(work.units())))
    assert texts(bank, codec) == TEN and set(left_out(bank)) == {"blank"}
    after = bank_work(job.plan, bank, retry_rejected=True).counts
    assert (after.units, after.documents, after.held) == (0, 0, 10)


def test_documents_held_are_those_that_the_bank_has(works, monkeypatch):
    job = works(TEN, unit_chunks=4)
    tokenize_or_raise(monkeypatch, {TEN["doc-3"]: ValueError("odd")})
    bank = committed(job, *(job.encode(unit) for unit in job.units))
    assert bank_work(job.plan, bank).counts.held == 9


def test_a_lost_device_rejects_nobody(works, monkeypatch):
    job = works(TEXTS)
    break_encoder(monkeypatch, {"Hi.": torch.AcceleratorError("CUDA error: unspecified")})
    with pytest.raises(torch.AcceleratorError):
        job.encode()
    job.ledger.begin(job.units[0].unit_id, 3)  # the next worker's attempt: the crash is on the record
    assert list(rejected(job.bank)) == []


def test_a_unit_that_was_done_by_a_worker_that_died_afterwards_is_not_encoded_again(works, monkeypatch):
    job = works(TEXTS)
    done = job.encode()
    break_encoder(monkeypatch, {"Hi.": AssertionError("encoded again")})
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


def test_where_every_document_ended_its_worker_it_was_not_the_documents(works):
    job = works(TEXTS)
    unit = job.units[0].unit_id
    while ranges := job.ledger.begin(unit, 3)[0]:  # workers that die whatever they encode
        job.ledger.trying(unit, *ranges[0])
    failure = job.encode().failure
    assert failure.reason == "none of its 3 documents could be encoded: encoding ended its worker twice"
    assert failure.lasting and list(rejected(job.bank)) == []


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
