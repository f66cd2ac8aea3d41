"""A codec from Python: texts to memories and back, without a bank."""

from __future__ import annotations

import numpy as np
import pytest
from works import ARTICLES

import nextmem


@pytest.fixture(scope="module")
def codec(tiny_codec_folder):
    return nextmem.Codec.load(tiny_codec_folder, precision="fp32")


def test_texts_come_back_exactly_in_their_order(codec):
    texts = ["", *ARTICLES.values(), "Hi."]
    memories = codec.encode(texts)
    assert codec.decode(memories) == texts
    assert (len(memories[0]), len(memories[1])) == (0, 2)


def test_what_the_latents_alone_give_is_another_text_with_an_untrained_codec(codec):
    memories = codec.encode([ARTICLES["fox"]])
    assert codec.decode(memories, patched=False) != [ARTICLES["fox"]]


def test_a_memory_has_its_latents_and_its_fidelity(codec):
    empty, fox = codec.encode(["", ARTICLES["fox"]])
    assert fox.latents.values.shape == (2, 3, 64) and fox.latents.as_embeds().shape == (2, 3, 64)
    assert 0 <= fox.fidelity <= 1 and empty.fidelity is None
    assert fox.rows["text_hash"].null_count == 0


def test_without_verifying_an_inexact_text_is_raised(codec):
    memories = codec.encode([ARTICLES["fox"]], verify=False)
    assert memories[0].fidelity is None
    with pytest.raises(nextmem.InexactRecall, match="no patch"):
        codec.decode(memories)


def test_a_query_is_embedded_as_a_bank_embeds_it(codec, articles):
    with nextmem.open(articles) as bank:
        (hit,) = bank.search("lazy dog", k=1)
        row = bank.to_arrow(["embedding"], filter={"chunk_id": hit.chunk_id})["embedding"].to_pylist()[0]
    query = codec.embed("lazy dog")
    assert query.dtype == np.float32 and query.ndim == 1
    assert np.dot(query, row) / np.linalg.norm(query) == pytest.approx(hit.score, abs=1e-3)


def test_the_identity_is_the_banks_own(codec, articles):
    with nextmem.open(articles) as bank:
        assert codec.identity == bank.info().identity.codec_hash


def test_one_text_in_place_of_a_list_is_a_type_error(codec):
    with pytest.raises(TypeError, match="a list of texts, not one text"):
        codec.encode("some text")


def test_a_folder_without_a_codec_is_refused(tmp_path):
    with pytest.raises(nextmem.Refusal, match="is not a whole codec folder"):
        nextmem.Codec.load(tmp_path)
