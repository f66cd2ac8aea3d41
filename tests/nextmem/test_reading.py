"""A memory's reader: the model that reads its latents, with the adapter of the codec's reader where it has one."""

from __future__ import annotations

import pytest
import torch

import nextmem
from model.adapters import adapter_tensors, add_adapters
from model.backbone import load_backbone
from model.codec_folder import READER_TENSORS
from model.codec_io import load_codec
from model.reader import NAME, add_reader
from model.refusal import Refusal


@pytest.fixture(scope="module")
def tensors(tiny_codec_folder):
    """An adapter that changes the backbone."""
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    config = load_codec(tiny_codec_folder, device="cpu", precision="fp32").config
    generator = torch.Generator().manual_seed(0)
    found = adapter_tensors(add_adapters(backbone, config, (NAME,)), (NAME,))
    return {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in found.items()}


@pytest.fixture
def with_reader(tmp_path, tiny_codec_folder, tensors):
    return add_reader(tiny_codec_folder, tensors, tmp_path / "with-reader", card="a card", reads="latents")


def states(backbone, embeds_SD):
    return backbone.body(inputs_embeds=embeds_SD[None], use_cache=False).last_hidden_state


def remembered(path, codec, **how):
    memory = nextmem.Memory(nextmem.create(path, codec=codec, precision="fp32"), **how)
    memory.remember("The ferry leaves pier 3.", doc_id="ferry")
    return memory


@torch.inference_mode()
def test_a_bank_carries_its_codecs_reader_and_reads_with_it(tmp_path, tiny_codec_folder, with_reader):
    plain = load_backbone("tiny-llama", precision="fp32", device="cpu")
    with remembered(tmp_path / "one", tiny_codec_folder) as bare, remembered(tmp_path / "two", with_reader) as memory:
        embeds = memory.context("ferry", 50, "latents").embeds
        assert embeds.equal(bare.context("ferry", 50, "latents").embeds)  # what is stored is the same
        assert states(bare.reader(), embeds).equal(states(plain, embeds))
        assert not torch.allclose(states(memory.reader(), embeds), states(plain, embeds), atol=1e-3)
        assert memory.reader() is memory.reader() and "reader" in memory.reader().name
        assert memory.recall(doc_id="ferry") == "The ferry leaves pier 3."


@torch.inference_mode()
def test_a_memory_takes_the_reader_of_another_folder(tmp_path, tiny_codec_folder, with_reader):
    with (
        remembered(tmp_path / "one", tiny_codec_folder, reader=with_reader) as memory,
        remembered(tmp_path / "two", with_reader) as other,
    ):
        embeds = memory.context("ferry", 50, "latents").embeds
        assert states(memory.reader(), embeds).equal(states(other.reader(), embeds))


def test_a_reader_of_other_latents_and_a_torn_one_are_refused(tmp_path, tiny_codec_folder, with_reader, tensors):
    from model.codec_io import save_codec
    from model.config import CodecConfig
    from model.untrained import untrained_codec

    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    other = save_codec(untrained_codec(backbone, CodecConfig(chunk_tokens=32, num_latents=2)), tmp_path / "other")
    elsewhere = add_reader(other, tensors, tmp_path / "elsewhere", card="", reads="latents")
    with nextmem.create(tmp_path / "bank", codec=with_reader) as bank:
        with pytest.raises(Refusal, match="holds those of"):
            bank.reader(elsewhere)
        torn = bytearray((with_reader / READER_TENSORS).read_bytes())
        torn[-1] ^= 1
        (with_reader / READER_TENSORS).write_bytes(torn)
        with pytest.raises(Refusal, match="is torn or missing"):
            bank.reader(with_reader)
        with pytest.raises(FileNotFoundError, match="has no reader"):
            bank.reader(tiny_codec_folder)
