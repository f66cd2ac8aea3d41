"""A bank whose rows store less than the codec makes: all that reads or writes codes works as in any other bank."""

from __future__ import annotations

import numpy as np
import pytest
from works import ARTICLES

import nextmem
from model.refusal import Refusal

LATENTS, BITS, WIDTH = 2, 3, 64
CODES, SCALES = LATENTS * WIDTH * BITS // 8, LATENTS * WIDTH // 64 * 2


@pytest.fixture
def bank(tiny_codec_folder, tmp_path):
    folder, rate = tmp_path / "small", {"latents": LATENTS, "bits": BITS}
    with nextmem.create(folder, codec=tiny_codec_folder, precision="fp32", **rate) as made:
        made.remember([{"doc_id": doc_id, "text": text} for doc_id, text in ARTICLES.items()])
        yield made


def ids(bank):
    return bank.to_arrow(["chunk_id"])["chunk_id"].to_pylist()


def assert_small_and_whole(bank, texts):
    rows = bank.to_arrow(["codes", "scales"]).to_pylist()
    assert {(len(row["codes"]), len(row["scales"])) for row in rows} == {(CODES, SCALES)}
    assert {doc_id: bank.recall(doc_id=doc_id) for doc_id in texts} == texts
    assert bank.verify().whole


def test_what_is_remembered_is_stored_at_the_bank_s_rate(bank):
    assert (bank.identity.num_latents, bank.identity.quantiser) == (LATENTS, f"nf{BITS}-standardised-64")
    assert_small_and_whole(bank, ARTICLES)


@pytest.mark.parametrize("method", ["encode", "refine", "patch"])
def test_an_edit_is_stored_at_the_bank_s_rate(bank, method):
    (found,) = bank.search(ARTICLES["fox"][:32], k=1)
    bank.edit(found.chunk_id, "quick", "slow", method=method)
    assert_small_and_whole(bank, {"fox": ARTICLES["fox"].replace("quick", "slow")})


def test_a_search_finds_what_it_finds_among_whole_rows(bank, articles):
    """The embedding is of all the latents, stored or not."""
    with nextmem.open(articles) as whole:
        for query in ("a dog", "東京", ARTICLES["fox"][:32]):
            small, large = ({hit.chunk_id: hit.score for hit in each.search(query, k=9)} for each in (bank, whole))
            assert small.keys() == large.keys()
            assert np.allclose(sorted(small.values()), sorted(large.values()), atol=1e-5)


def test_rows_are_refined_at_the_bank_s_rate(bank):
    before = bank.to_arrow(["patch"])["patch"].to_pylist()
    refined = bank.refine(3)
    after = bank.to_arrow(["patch"])["patch"].to_pylist()
    assert refined.rows == len(before) and sum(map(len, after)) <= sum(map(len, before))
    assert_small_and_whole(bank, ARTICLES)


def test_exported_latents_are_as_many_as_a_row_stores(bank, tmp_path):
    import pyarrow.parquet as pq

    bank.export(tmp_path / "out", with_=["latents", "codes"])
    rows = pq.read_table(next((tmp_path / "out").rglob("*.parquet"))).to_pylist()
    exported = {row["chunk_id"]: np.array(row["latents"]).reshape(LATENTS, WIDTH) for row in rows}
    own = bank.latents(ids(bank))
    assert all(
        np.allclose(exported[chunk_id], latents)
        for chunk_id, latents in zip(own.chunk_ids, own.values.numpy(), strict=True)
    )
    readme = next((tmp_path / "out").rglob("README.md")).read_text()
    assert f"[{LATENTS}, {WIDTH}]" in readme and f"one {BITS}-bit code a value" in readme


def test_the_first_latents_are_read_and_decoded_alone(bank):
    chunk_ids = ids(bank)
    all_of_them, first = bank.latents(chunk_ids), bank.latents(chunk_ids, k=1)
    assert all_of_them.values.shape == (len(chunk_ids), LATENTS, WIDTH)
    assert first.as_embeds().shape == (len(chunk_ids), 1, WIDTH)
    assert np.array_equal(first.values[:, 0], all_of_them.values[:, 0])
    drafts = [[row.text for row in bank.recalled(patched=False, k=k)] for k in (1, LATENTS, None)]
    assert drafts[0] != drafts[1] == drafts[2]
    for k in (0, LATENTS + 1):
        with pytest.raises(Refusal, match=f"k is {k}: a row stores {LATENTS} latents"):
            bank.latents(chunk_ids, k=k)
        with pytest.raises(Refusal, match=f"k is {k}: a row stores {LATENTS} latents"):
            bank.recalled(patched=False, k=k)
    with pytest.raises(Refusal, match="k needs patched=False"):
        bank.recalled(k=1)


def test_banks_of_two_rates_do_not_merge(bank, articles, tmp_path):
    with pytest.raises(Refusal, match="num_latents: 2 and 3"):
        bank.merge(articles)


def test_a_memory_counts_the_latents_that_a_row_stores(bank):
    memory = nextmem.Memory(bank)
    assert memory.context("a dog", LATENTS, "latents").tokens == LATENTS


def test_a_bank_of_more_latents_than_the_codec_makes_is_not_made(tiny_codec_folder, tmp_path):
    with pytest.raises(Refusal, match="4 latents a row were asked for; the codec makes 3"):
        nextmem.create(tmp_path / "large", codec=tiny_codec_folder, latents=4)
    assert not (tmp_path / "large").exists()


def test_an_encode_job_takes_the_rate_that_is_asked_for_and_keeps_to_the_bank_s(bank, tiny_codec_folder, tmp_path):
    from jobs.encode.request import codec_folder
    from model.rate import Rate
    from nextmem.encoding import encode_request

    def rate(uri, **asked):
        given = {"codec": tiny_codec_folder, "backbone": None, "text_column": "text", "id_column": None, "columns": ()}
        given |= {"verify": True, "keep_text": False, "refine": None, "retry_rejected": False, "actors": None}
        request = encode_request("corpus", uri, **given, gpus=False, pool=None, precision="fp32", **asked)
        return codec_folder(request, str(uri), gpus=False)[1].rate

    assert rate(tmp_path / "new", latents=1, bits=2) == Rate(1, 2)
    assert rate(tmp_path / "new", latents=None, bits=None) == Rate()
    assert rate(bank.path, latents=None, bits=None) == rate(bank.path, latents=2, bits=3) == Rate(LATENTS, BITS)
    with pytest.raises(Refusal, match="stores 2 latents a row, 3 bits a value, and another rate was asked for"):
        rate(bank.path, latents=1, bits=None)
