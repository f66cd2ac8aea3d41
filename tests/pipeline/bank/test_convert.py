"""A bank embedded anew by a head: the same rows and records, other vectors; only for the latents it was taught on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from works import ARTICLES, Works, jsonl

from model.backbone import load_backbone
from model.codec_head import add_head
from model.codec_io import load_codec, save_codec
from model.config import CodecConfig
from model.head import PoolingHead
from model.untrained import untrained_codec
from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.convert import convert
from pipeline.bank.find import find
from pipeline.bank.forget import forget
from pipeline.bank.opened import load_bank_codec
from pipeline.bank.recall import recall
from pipeline.bank.rejected import rejected
from pipeline.bank.search import embed_query

E = 16


def headed(codec_folder, out):
    codec = load_codec(codec_folder, device="cpu")
    torch.manual_seed(5)
    head = PoolingHead(codec.backbone.width, codec.config.num_latents, codec.backbone.vocab_size, E, heads=4)
    return add_head(codec_folder, head, out)


@pytest.fixture(scope="module")
def head(tiny_codec_folder, tmp_path_factory):
    return headed(tiny_codec_folder, tmp_path_factory.mktemp("head") / "codec")


@pytest.fixture
def converted(articles, head, tmp_path):
    convert(Bank.open(articles), str(tmp_path / "new"), str(head))
    return Bank.open(tmp_path / "new")


def columns(bank, *names):
    return [row for batch in bank.rows(list(names)) for row in batch.to_pylist()]


def test_the_rows_are_the_same_but_for_the_embedding(articles, converted):
    old = Bank.open(articles)
    names = [name for name in old.schema.names if name != "embedding"]
    assert columns(converted, *names) == columns(old, *names) != []
    assert {len(row["embedding"]) for row in columns(converted, "embedding")} == {E}
    assert (converted.identity.pooling, converted.identity.embedding_width) == ("head", E)


def test_each_embedding_is_the_head_s_of_the_stored_latents(converted):
    codec = load_bank_codec(converted)
    for row in columns(converted, "codes", "scales", "embedding"):
        codes, scales = np.frombuffer(row["codes"], np.uint8), np.frombuffer(row["scales"], np.float16)
        latents = codec.dequantise(torch.tensor(codes)[None], torch.tensor(scales)[None])
        assert np.allclose(codec.embed(latents)[0].numpy(), row["embedding"], atol=1e-6)


def test_the_new_bank_is_searched_by_the_head_and_recalls_exactly(converted):
    codec = load_bank_codec(converted)
    hits = find(converted, "the fox", 3, by="latents", embed=lambda query: embed_query(codec, query), weight=float)
    assert len(hits) == 3 and -1 <= hits[-1].score <= hits[0].score <= 1
    texts = recall(converted.rows(), codec)
    assert "".join(row.text for row in texts if row.doc_id == "fox" and row.exact) == ARTICLES["fox"]


def test_a_query_with_a_head_needs_no_forward(converted, monkeypatch):
    codec = load_bank_codec(converted)
    monkeypatch.setattr(type(codec), "encode", lambda *arguments: pytest.fail("encoded"))
    assert embed_query(codec, "a fox, and " * 40).shape == (E,)


def test_finished_units_forgotten_and_rejected_documents_come_along(tiny_codec_folder, head, tmp_path, monkeypatch):
    from pipeline.encode import encode_work

    monkeypatch.setattr(encode_work, "matmul_rate", lambda device, dtype: 1e9)
    corpus = jsonl(tmp_path / "corpus.jsonl", ARTICLES)
    with corpus.open("a") as file:
        file.write('{"id": "odd", "text": 7}\n')
    works = Works(tmp_path, tiny_codec_folder, corpus)
    commit(works.bank, [works.encode().receipt])
    forget(works.bank, doc_ids=["tokyo"])
    old = Bank.open(works.bank.folder.uri)
    convert(old, str(tmp_path / "new"), str(head))
    new = Bank.open(tmp_path / "new")
    assert new.finished_documents() == old.finished_documents() != {}
    assert list(new.forgotten().among(["tokyo", "fox"])) == ["tokyo"]
    assert [each.doc_id for each in rejected(new)] == [each.doc_id for each in rejected(old)] == ["odd"]


def test_going_back_to_the_mean_gives_the_encoder_s_embeddings_but_for_nf4(articles, converted, tmp_path):
    old = Bank.open(articles)
    convert(converted, str(tmp_path / "back"), old.codec_path)
    pairs = zip(columns(old, "embedding"), columns(Bank.open(tmp_path / "back"), "embedding"), strict=True)
    assert min(np.dot(one["embedding"], other["embedding"]) for one, other in pairs) > 0.95


def test_a_head_of_another_codec_is_refused_by_name(articles, tmp_path):
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    config = CodecConfig(chunk_tokens=32, num_latents=3, latent_gain="raw")
    other = save_codec(untrained_codec(backbone, config), tmp_path / "other")
    own, foreign = Bank.open(articles).identity.codec_hash, load_codec(other, device="cpu").identity
    with pytest.raises(ValueError, match=f"is of latents {foreign}, .* holds those of {own}"):
        convert(Bank.open(articles), str(tmp_path / "new"), str(headed(other, tmp_path / "head")))
    assert not (tmp_path / "new").exists()


def test_a_bank_that_holds_rows_is_not_written_to_and_one_that_a_kill_left_empty_is(articles, head, tmp_path):
    from pipeline.bank.convert import _empty_bank

    _empty_bank(str(tmp_path / "new"), str(head), Bank.open(articles))
    convert(Bank.open(articles), str(tmp_path / "new"), str(head))
    with pytest.raises(FileExistsError, match="holds rows already"):
        convert(Bank.open(articles), str(tmp_path / "new"), str(head))


def test_the_command_says_what_it_made(nextmem, refused, articles, head, tmp_path):
    ran = nextmem("convert", articles, tmp_path / "new", "--codec", head)
    assert ran.code == 0 and f"{E} values each" in ran.out
    assert "holds rows already" in refused("convert", articles, tmp_path / "new", "--codec", head)
