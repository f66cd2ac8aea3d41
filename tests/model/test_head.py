"""The embedding head: what either side pools, that it is kept whole in a codec, and that it can be taught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.backbone import load_backbone
from model.codec_head import add_head, latents_identity
from model.codec_io import load_codec, save_codec
from model.config import CodecConfig
from model.head import PoolingHead, head_of, padded
from model.training.closed_form import fitted
from model.training.teaching import ALONE, HeadConfig, Lesson, teach
from model.untrained import untrained_codec

D, K, V, E = 64, 3, 300, 16


@pytest.fixture
def head():
    torch.manual_seed(1)
    return PoolingHead(D, K, V, E, heads=4).eval()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The tiny codec, without a head."""
    config = CodecConfig(chunk_tokens=32, num_latents=K)
    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), config)
    return save_codec(codec, tmp_path_factory.mktemp("plain") / "codec")


@pytest.fixture(scope="module")
def headed(plain):
    codec = load_codec(plain, device="cpu")
    torch.manual_seed(2)
    made = PoolingHead(codec.backbone.width, K, codec.backbone.vocab_size, E, heads=4)
    return add_head(plain, made, plain.parent / "headed")


def test_equal_weights_give_the_mean_of_the_values(head):
    """With nothing to look for and nothing learnt of kinds, each head weighs all items alike."""
    torch.nn.init.zeros_(head.passages.look.weight)
    torch.nn.init.zeros_(head.passages.mix.weight)
    torch.nn.init.zeros_(head.passages.mix.bias)
    latents = torch.randn(2, K, D)
    mean = head.passages.value(latents).mean(dim=1)
    assert torch.allclose(head.embed_latents(latents), mean / mean.norm(dim=-1, keepdim=True), atol=1e-6)


def test_a_latent_that_is_worth_all_decides_alone(head):
    head.passages.worth.data = torch.tensor([0.0, 100.0, 0.0])
    latents, others = torch.randn(1, K, D), torch.randn(1, K, D)
    others[:, 1] = latents[:, 1]
    assert torch.allclose(head.embed_latents(latents), head.embed_latents(others), atol=1e-5)


def test_a_query_beside_a_longer_one_is_embedded_as_alone(head):
    table = torch.randn(V, D)
    texts = [np.array([5, 7]), np.array([9, 2, 5, 1, 3])]
    together = head.embed_tokens(table[padded(texts)[0]], *padded(texts))
    alone = head.embed_tokens(table[padded(texts[:1])[0]], *padded(texts[:1]))
    assert torch.allclose(together[:1], alone, atol=1e-6) and torch.allclose(together.norm(dim=-1), torch.ones(2))


def test_fewer_latents_than_the_codec_s_are_embedded_too(head):
    assert head.embed_latents(torch.randn(2, K - 1, D)).shape == (2, E)


def test_a_head_is_read_back_as_it_was_kept(head):
    again = head_of(head.tensors())
    latents = torch.randn(3, K, D)
    assert torch.allclose(again.embed_latents(latents), head.embed_latents(latents), atol=0.05)
    assert torch.equal(again.embed_latents(latents), head_of(again.tensors()).embed_latents(latents))
    assert head_of({"marker": torch.zeros(3)}) is None


def test_a_codec_with_a_head_has_an_identity_of_its_own_and_the_old_one_s_latents(plain, headed):
    before, after = load_codec(plain, device="cpu"), load_codec(headed, device="cpu")
    assert after.identity != before.identity and latents_identity(headed) == before.identity == latents_identity(plain)
    assert (before.embedding_width, after.embedding_width) == (before.backbone.width, E)
    chunk = before.tokenizer.encode("a fox and a dog")
    old, new = (codec.memorise([chunk], verify=False)[0] for codec in (before, after))
    assert old.codes == new.codes and old.embedding_E.shape != new.embedding_E.shape == (E,)
    assert np.linalg.norm(new.embedding_E) == pytest.approx(1, abs=1e-5)


def test_a_new_head_takes_the_old_one_s_place(plain, headed, tmp_path):
    codec = load_codec(plain, device="cpu")
    other = PoolingHead(codec.backbone.width, K, codec.backbone.vocab_size, E, heads=2)
    again = add_head(headed, other, tmp_path / "again")
    assert latents_identity(again) == codec.identity
    assert head_of(load_file(again / "codec.safetensors")).passages.look.weight.shape == (2, codec.backbone.width)


def test_a_codec_with_a_head_is_saved_and_loaded_whole(headed, tmp_path):
    codec = load_codec(headed, device="cpu")
    saved = save_codec(codec, tmp_path / "saved")
    assert torch.equal(load_codec(saved, device="cpu").head.queries.worth, codec.head.queries.worth)


def test_a_new_codec_cannot_be_asked_to_have_a_head():
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    with pytest.raises(ValueError, match="only `nextmem train --system head` makes a codec with a head"):
        untrained_codec(backbone, CodecConfig(chunk_tokens=32, num_latents=K, pooling="head"))


def lesson(passages=80, alone=0, seed=0):
    """Passages and queries of one token each that stand for 8 hidden numbers; so do the teacher's vectors."""
    random = torch.Generator().manual_seed(seed)
    hidden = torch.randn(passages + alone, 8, generator=random)
    to_teacher, to_latents, to_tokens = (torch.randn(8, n, generator=random) for n in (384, K * D, D))
    taught = torch.nn.functional.normalize(hidden @ to_teacher, dim=-1)
    latents = (hidden @ to_latents).view(-1, K, D)
    table = torch.nn.Embedding.from_pretrained(hidden @ to_tokens)
    queries = [np.array([number]) for number in range(passages + alone)]
    passage_of = np.array([*range(passages), *[ALONE] * alone])
    return Lesson(latents.__getitem__, taught[:passages], queries, taught, passage_of, table)


def test_a_head_finds_passages_that_it_was_not_taught():
    config = HeadConfig(steps=60, batch_size=32, held_out=0.1, dropped=0.0)
    rows = []
    head, looked = teach(lesson(), config, observe=rows.append)
    assert (looked.passages, looked.found_first, looked.teacher_found_first) == (8, 1.0, 1.0)
    assert rows[0]["passage_cosine"] > 0.8, "it begins as the best linear map"
    assert rows[0]["loss"] > 1.2 * rows[-1]["loss"] and looked.passage_cosine > rows[0]["passage_cosine"]
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_without_steps_a_head_is_its_closed_form():
    """The best linear map of what 8 hidden numbers decide gives them back, but for the layer norm of tokens."""
    _, looked = teach(lesson(), HeadConfig(steps=0, held_out=0.1))
    assert looked.passage_cosine > 0.9 and looked.found_first == 1.0


def test_queries_without_a_passage_teach_the_queries_side_alone():
    config = HeadConfig(steps=1, batch_size=8, held_out=0.3, dropped=0.0)
    few, more = (teach(lesson(12, alone), config)[1] for alone in (0, 60))
    assert more.query_cosine > few.query_cosine + 0.1


def test_the_closed_form_is_the_line_through_its_points_whatever_the_batches():
    inputs = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    vectors = torch.stack([1 + 2 * inputs[:, 0], 3 - inputs[:, 1]], dim=1)
    batches = [(inputs[:1], vectors[:1]), (inputs[1:], vectors[1:])]
    found = fitted(batches, (inputs, torch.nn.functional.normalize(vectors, dim=-1)), ridges=(1e-9, 10.0))
    assert torch.allclose(found.weight_DE, torch.tensor([[2.0, 0.0], [0.0, -1.0]]), atol=1e-4)
    assert torch.allclose(found.bias_E, torch.tensor([1.0, 3.0]), atol=1e-4)


def test_the_same_seed_teaches_the_same_head():
    config = HeadConfig(steps=5, batch_size=16)
    taught = lesson()
    one, other = (teach(taught, config)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="steps is -1"):
        HeadConfig(steps=-1)
    with pytest.raises(ValueError, match="held_out is above 0"):
        dataclasses.replace(HeadConfig(), held_out=1.0)
    with pytest.raises(ValueError, match="2 passages with queries are too few"):
        teach(lesson(passages=2), HeadConfig(steps=1))
