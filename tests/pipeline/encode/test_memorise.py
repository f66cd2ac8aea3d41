"""A chunk table becomes memory rows in order, whatever memory and lengths do. A byte is a token, a chunk at most 32."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from works import chunk_table

from model.config import RefineConfig
from pipeline import schema
from pipeline.encode.memorise import Memoriser


def out_of_memory_above(codec, monkeypatch, limit, error=torch.OutOfMemoryError):
    """The codec refuses batches of more than `limit()` chunks, as a GPU does that still holds what it made of them.

    Returns the sizes that were tried. Each try asserts that the tensors of every failed one before it are gone.
    """
    tried, left_behind, memorise = [], [], codec.memorise

    def memorise_few(chunks, *, verify):
        assert [held() for held in left_behind if held() is not None] == [], "the failed batch is still in memory"
        tried.append(len(chunks))
        if len(chunks) > (limit() if callable(limit) else limit):
            activations = torch.zeros(len(chunks), 8)
            left_behind.append(weakref.ref(activations))
            raise error(f"CUDA error: CUBLAS_STATUS_ALLOC_FAILED with {len(activations)} chunks")
        return memorise(chunks, verify=verify)

    monkeypatch.setattr(codec, "memorise", memorise_few)
    return tried


def same_rows(a, b):
    columns = [name for name in a.schema.names if name not in (schema.ENCODED_AT, schema.EMBEDDING)]
    vectors = [table[schema.EMBEDDING].combine_chunks().flatten() for table in (a, b)]
    return a.select(columns).equals(b.select(columns)) and np.allclose(*vectors, atol=1e-5)


def test_rows_come_in_the_order_of_the_chunks_with_the_bank_s_schema(codec):
    chunks = chunk_table(codec)
    rows = Memoriser(codec, batch_size=2).memorise(chunks, "unit-1")
    assert rows.schema.equals(schema.row_schema())
    for name in (schema.CHUNK_ID, schema.DOC_ID, schema.POSITION, schema.CHAR_START, schema.TEXT_HASH):
        assert rows[name].to_pylist() == chunks[name].to_pylist()
    assert set(rows[schema.UNIT].to_pylist()) == {"unit-1"}


def test_a_row_has_codes_scales_a_unit_embedding_and_a_fidelity(codec):
    row = Memoriser(codec).memorise(chunk_table(codec, {"a": "Hello."}), "u").to_pylist()[0]
    assert (len(row["codes"]), len(row["scales"])) == (3 * 64 // 2, 3 * 2)
    assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-6)
    assert 0 <= row["fidelity"] <= 1 and row["patch"]


def test_the_batch_size_does_not_change_the_rows(codec):
    chunks = chunk_table(codec)
    assert same_rows(Memoriser(codec, batch_size=1).memorise(chunks, "u"), Memoriser(codec).memorise(chunks, "u"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])  # cuBLAS and the CPU say it their own way
def test_a_batch_that_does_not_fit_is_freed_and_halved_and_nothing_is_lost_or_reordered(codec, monkeypatch, error):
    chunks = chunk_table(codec)
    whole = Memoriser(codec).memorise(chunks, "u")
    tried = out_of_memory_above(codec, monkeypatch, limit=2, error=error)
    assert same_rows(Memoriser(codec, batch_size=8).memorise(chunks, "u"), whole)
    assert (tried[0], sum(tried)) == (7, 7 + 7 + sum(n for n in tried[1:] if n > 2)) and max(tried[1:]) == 3


def test_the_smaller_batch_is_kept_for_what_comes_after(codec, monkeypatch):
    tried = out_of_memory_above(codec, monkeypatch, limit=2)
    memoriser = Memoriser(codec, batch_size=4)
    memoriser.memorise(chunk_table(codec), "u")
    tried.clear()
    memoriser.memorise(chunk_table(codec), "u")
    assert max(tried) <= 2


def test_the_batch_grows_again_once_there_is_memory(codec, monkeypatch):
    memory = {"chunks": 2}
    tried = out_of_memory_above(codec, monkeypatch, limit=lambda: memory["chunks"])
    memoriser = Memoriser(codec, batch_size=7)
    memoriser.memorise(chunk_table(codec), "u")
    memory["chunks"] = 100
    for _ in range(30):
        tried.clear()
        memoriser.memorise(chunk_table(codec), "u")
    assert tried == [7]


def test_an_error_that_is_not_about_memory_is_not_tried_again(codec, monkeypatch):
    tried = out_of_memory_above(codec, monkeypatch, limit=2, error=KeyError)
    with pytest.raises(KeyError):
        Memoriser(codec, batch_size=8).memorise(chunk_table(codec), "u")
    assert tried == [7]


def test_a_single_chunk_that_does_not_fit_is_an_error(codec, monkeypatch):
    out_of_memory_above(codec, monkeypatch, limit=0)
    with pytest.raises(torch.OutOfMemoryError):
        Memoriser(codec).memorise(chunk_table(codec), "u")


def test_without_verifying_fidelity_and_patch_are_null(codec):
    rows = Memoriser(codec, verify=False).memorise(chunk_table(codec), "u")
    assert set(rows[schema.FIDELITY].to_pylist()) == set(rows[schema.PATCH].to_pylist()) == {None}
    verified = Memoriser(codec).memorise(chunk_table(codec), "u")
    assert rows[schema.CODES].to_pylist() == verified[schema.CODES].to_pylist()


def test_numbers_count_chunks_verified_and_padding_and_start_anew(codec):
    memoriser = Memoriser(codec, batch_size=2)
    memoriser.memorise(chunk_table(codec, {"a": "x" * 10, "b": "y" * 4}), "u")
    numbers = memoriser.take_numbers()
    assert (numbers["verified"], numbers["padding"], numbers["positions"]) == (2, 6, 2 * (10 + 3))
    assert memoriser.take_numbers() == {}


def test_refined_rows_say_how_many_steps_they_took_and_the_numbers_what_it_did(codec):
    """The untrained codec's latents carry nothing: every chunk goes to the cap."""
    memoriser = Memoriser(codec, refine=RefineConfig(2))
    rows = memoriser.memorise(chunk_table(codec), "u")
    numbers = memoriser.take_numbers()
    assert rows[schema.REFINE_STEPS].to_pylist() == [2] * rows.num_rows
    assert (numbers["refined"], numbers["refine_steps"]) == (rows.num_rows, 2 * rows.num_rows)
    plain = Memoriser(codec)
    plain.memorise(chunk_table(codec), "u")
    assert numbers["patch_bytes_before"] == plain.take_numbers()["patch_bytes"] >= numbers["patch_bytes"]
    assert numbers["refine_seconds"] > numbers["refined_encode_seconds"] > 0


def test_rows_that_were_not_refined_have_no_steps(codec):
    rows = Memoriser(codec).memorise(chunk_table(codec), "u")
    assert rows[schema.REFINE_STEPS].null_count == rows.num_rows


def test_what_cannot_be_refined_for_nan_keeps_its_latents_and_is_counted(codec, monkeypatch):
    monkeypatch.setattr("model.refine.RATE", float("nan"))
    memoriser = Memoriser(codec, refine=RefineConfig(2))
    rows, plain = memoriser.memorise(chunk_table(codec), "u"), Memoriser(codec).memorise(chunk_table(codec), "u")
    assert rows[schema.CODES].to_pylist() == plain[schema.CODES].to_pylist()
    assert memoriser.take_numbers()["not_refined"] == rows.num_rows


def test_no_chunks_are_no_rows(codec):
    assert Memoriser(codec).memorise(chunk_table(codec, {}), "u").num_rows == 0
