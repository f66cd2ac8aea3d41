"""Copies in a bank: exact chunks counted, covered documents found, whatever the size of a block."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from banks import IDENTITY, E, held, receipt, rows

from model.refusal import Refusal
from pipeline.bank import duplicates
from pipeline.bank.bank import Bank
from pipeline.bank.commit import Receipt, commit
from pipeline.bank.duplicates import Duplicate, find_duplicates


def add(bank, unit_id, documents):
    """{doc_id: embeddings of its chunks}."""
    table = rows(unit_id, {doc_id: len(vectors) for doc_id, vectors in documents.items()}, text=unit_id)
    values = [(np.array(vector) / np.linalg.norm(vector)).tolist() for each in documents.values() for vector in each]
    at = table.schema.get_field_index("embedding")
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    files = tuple(bank.writer().write(unit_id, table))
    commit(bank, [Receipt(unit_id, files, len(documents), table.num_rows)])


def axis(*places):
    return [float(i in places) for i in range(E)]


@pytest.fixture
def bank(tmp_path):
    return Bank.create(tmp_path / "bank", IDENTITY)


def test_a_document_whose_every_chunk_another_has_is_found(bank):
    x, y, z, near_x = axis(0), axis(1), axis(2), [1.0, 0.1, *axis()[2:]]
    add(bank, "unit-1", {"whole": [x, y, z], "part": [z, x], "half": [x, axis(5)], "nearly": [near_x]})
    found = find_duplicates(bank, 0.99)
    assert [(each.doc_id, each.kept) for each in found.found] == [("nearly", "whole"), ("part", "whole")]
    assert found.found[0].cosine == pytest.approx(1 / np.sqrt(1.01)) and found.found[1].cosine == pytest.approx(1)
    assert [each.doc_id for each in find_duplicates(bank, 0.999).found] == ["part"]
    assert (found.documents, found.chunks) == (4, 8)


def test_of_two_alike_the_one_encoded_first_is_kept_and_of_three_one(bank):
    add(bank, "unit-1", {"b": [axis(0)], "a": [axis(0)], "c": [axis(0)]})  # one moment: then the smaller id
    assert find_duplicates(bank).found == (Duplicate("b", "a", 1.0), Duplicate("c", "a", 1.0))


def test_exact_chunks_are_counted_by_their_text(bank):
    commit(bank, [receipt(bank, "unit-a", {"a": 3, "b": 1})])
    commit(bank, [receipt(bank, "unit-c", {"c": 2}, text="v2", seed=1)])
    assert find_duplicates(bank).exact == 1  # the first chunks of a and b have one text
    assert find_duplicates(bank).found == ()


def test_an_empty_bank_has_no_copies(bank):
    found = find_duplicates(bank)
    assert (found.chunks, found.exact, found.documents, found.found) == (0, 0, 0, ())


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
def test_blocks_change_nothing(bank, block, monkeypatch):
    """Against every pair looked at one by one."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(6, E))
    documents = {
        f"d{i:02}": [centres[rng.integers(6)] + 0.02 * rng.normal(size=E) for _ in range(rng.integers(1, 4))]
        for i in range(30)
    }
    add(bank, "unit-1", documents)
    monkeypatch.setattr(duplicates, "BLOCK", block)
    found = find_duplicates(bank, 0.995)
    kept = []
    for doc_id in sorted(documents, key=lambda each: (-len(documents[each]), each)):
        if not any(covers(documents[other], documents[doc_id], 0.995) for other in kept):
            kept.append(doc_id)
    assert {each.doc_id for each in found.found} == documents.keys() - set(kept) and 5 < len(found.found) < 29
    assert {each.kept for each in found.found} <= set(kept)
    for each in found.found:
        assert covers(documents[each.kept], documents[each.doc_id], 0.995)


def covers(whole, part, threshold):
    def cosine(one, other):
        return np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)

    return all(max(cosine(chunk, other) for other in whole) >= threshold for chunk in part)


def test_a_threshold_that_is_no_cosine_is_refused(bank):
    for threshold in (0, 1.5, float("nan")):
        with pytest.raises(Refusal, match="it must be above 0 and at most 1"):
            find_duplicates(bank, threshold)


def test_applied_they_are_forgotten_and_can_come_back(bank, nextmem):
    add(bank, "unit-1", {"a": [axis(0), axis(1)], "b": [axis(0)], "c": [axis(4)]})
    out = nextmem("dedupe", bank.folder.uri).out
    assert out.startswith("1.0000  b  is in  a\n") and "1 of 3 are covered by another, and could go" in out
    assert held(bank) == {"a": 2, "b": 1, "c": 1}
    counts, found = nextmem("dedupe", bank.folder.uri, "--apply", "--json").records
    assert (counts["found"], counts["applied"], found["doc_id"]) == (1, True, "b")
    assert held(bank) == {"a": 2, "c": 1}
    assert "0 of 2 are covered" in nextmem("dedupe", bank.folder.uri, "--apply").out
    nextmem("forget", bank.folder.uri, "--undo")
    assert held(bank) == {"a": 2, "b": 1, "c": 1}
