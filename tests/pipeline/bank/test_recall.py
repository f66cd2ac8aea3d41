"""Rows back to text: in order, exact, or visibly not. The bank's rows are the tiny codec's: a byte a token."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.bank import recall as decode_module
from pipeline.bank.recall import InexactRecall, recall
from pipeline.corpus.documents import Document, document_hash
from pipeline.encode.chunk import chunk_documents
from pipeline.encode.memorise import Memoriser

TEXTS = [f"Article {n}: " + "one sentence after another. " * (n % 4) for n in range(9)]


def memory_rows(codec, texts=TEXTS, *, verify=True, keep_text=False):
    documents = [Document(f"doc-{n}", text, document_hash(text), f"c.jsonl:{n + 1}") for n, text in enumerate(texts)]
    chunks = chunk_documents(documents, codec.tokenizer, chunk_tokens=codec.config.chunk_tokens, keep_text=keep_text)
    return Memoriser(codec, verify=verify).memorise(chunks, "u")


@pytest.fixture(scope="module")
def rows(codec):
    return memory_rows(codec)


def changed(rows, at, **values):
    """The rows with some values of row `at` replaced."""
    found = rows.to_pylist()
    found[at] |= values
    return pa.Table.from_pylist(found, schema=rows.schema)


def recalled(rows, codec, **options):
    return list(recall(rows.to_batches(), codec, **options))


def whole(found):
    return "".join(row.text for row in found)


def test_every_row_comes_back_exactly_and_in_order(codec, rows):
    found = recalled(rows, codec)
    assert whole(found) == "".join(TEXTS)
    assert all(row.exact for row in found)
    for name in (schema.CHUNK_ID, schema.DOC_ID, schema.POSITION, schema.CHAR_START, schema.CHAR_END, schema.FIDELITY):
        assert [getattr(row, name) for row in found] == rows[name].to_pylist()


def test_scales_that_are_no_numbers_are_a_damaged_row_which_costs_no_other(codec, rows):
    scales = b"\0\x7e" + rows["scales"][2].as_py()[2:]  # float16's NaN
    found = recalled(changed(rows, 2, scales=scales), codec)
    assert [row.exact for row in found] == [n != 2 for n in range(len(found))]


@pytest.mark.parametrize("window", [1, 2, 3, 512])
def test_order_is_kept_across_windows_whatever_batches_rows_come_in(codec, rows, monkeypatch, window):
    monkeypatch.setattr(decode_module, "WINDOW", window)
    for size in (1, 3, 100):
        assert whole(recall(rows.to_batches(max_chunksize=size), codec, batch_size=2)) == "".join(TEXTS)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_does_not_change_the_text(codec, rows, batch_size):
    found = recalled(rows, codec, batch_size=batch_size)
    assert whole(found) == "".join(TEXTS) and all(row.exact for row in found)


def test_the_first_texts_come_after_the_first_batch_and_it_is_told_of_every_row_batch_by_batch(codec, rows):
    told: list[int] = []
    found = recall(rows.to_batches(), codec, batch_size=4, on_decoded=told.append)
    next(found)
    assert sum(told) == 4 < rows.num_rows
    assert len(list(found)) == rows.num_rows - 1 and sum(told) == rows.num_rows and max(told) <= 4


def test_recall_is_streaming(codec, rows):
    taken = []

    def batches():
        for batch in rows.to_batches(max_chunksize=1):
            taken.append(batch)
            yield batch

    next(recall(batches(), codec, batch_size=2))
    assert len(taken) == 2


def test_what_the_latents_alone_give_is_not_exact_and_as_long(codec, rows):
    found = recalled(rows, codec, patched=False)
    assert not any(row.exact for row in found)  # an untrained codec carries nothing
    assert len(found) == rows.num_rows


def test_carried_is_the_share_of_positions_that_the_patch_does_not_give(codec, rows):
    patches = [codec.patches.unpack(patch) for patch in rows[schema.PATCH].to_pylist()]
    wanted = [patch.carried(n) for patch, n in zip(patches, rows[schema.NUM_TOKENS].to_pylist(), strict=True)]
    assert [row.carried for row in recalled(rows, codec)] == wanted


def test_a_wrong_text_hash_is_never_exact(codec, rows):
    found = recalled(changed(rows, 3, text_hash="0" * 32), codec)
    assert [row.exact for row in found] == [n != 3 for n in range(rows.num_rows)]


def test_a_patch_with_other_tokens_is_never_exact(codec, rows):
    patch = bytearray(rows[schema.PATCH][3].as_py())
    patch[-2] ^= 1  # the low byte of the last token
    found = recalled(changed(rows, 3, patch=bytes(patch)), codec)
    assert [row.exact for row in found] == [n != 3 for n in range(rows.num_rows)]


def damaged_rows(rows):
    row = rows.to_pylist()[3]
    yield "codes", row["codes"][:-1]
    yield "codes", b""
    yield "scales", row["scales"][:-2]
    yield "patch", row["patch"][:-1]
    yield "patch", b""
    yield "patch", b"\x07junk"
    yield "patch", bytes([1]) + b"\xff\xff" * row["num_tokens"]  # raw ids that no vocabulary has
    yield "patch", bytes([0, 255, 0, 0])  # a position past the chunk's end
    yield "patch", bytes([0, 1, 255, 255])  # a token that no vocabulary has
    yield "patch", bytes([2])  # says that the text stands in the row


@pytest.mark.parametrize("case", range(10))
def test_a_damaged_row_is_not_exact_and_costs_no_other_row(codec, rows, case):
    column, value = list(damaged_rows(rows))[case]
    found = recalled(changed(rows, 3, **{column: value}), codec)
    assert [row.exact for row in found] == [n != 3 for n in range(rows.num_rows)]
    assert "".join(row.text for n, row in enumerate(found) if n != 3) == "".join(
        row.text for n, row in enumerate(recalled(rows, codec)) if n != 3
    )


def test_the_error_of_a_row_names_chunk_document_and_position_and_what_to_do(codec, rows):
    row = recalled(changed(rows, 3, text_hash="0" * 32), codec)[3]
    with pytest.raises(
        InexactRecall, match=rf"chunk {row.chunk_id} \(document '{row.doc_id}', position {row.position}\)"
    ):
        raise InexactRecall(row)
    assert "the row is damaged" in str(InexactRecall(row)) and "encoding the document again" in str(InexactRecall(row))


def test_unverified_rows_say_that_they_have_no_patch(codec):
    found = recalled(memory_rows(codec, verify=False), codec)
    assert {row.carried for row in found} == {None}
    assert not any(row.exact for row in found)
    assert "--no-verify" in str(InexactRecall(found[0]))


def test_text_that_was_kept_beside_unverified_latents_is_exact(codec):
    found = recalled(memory_rows(codec, verify=False, keep_text=True), codec)
    assert whole(found) == "".join(TEXTS) and all(row.exact for row in found)


def test_no_rows_are_no_texts(codec, rows):
    assert recalled(rows.slice(0, 0), codec) == []
