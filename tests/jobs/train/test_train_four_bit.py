"""`nextmem train` on a backbone in 4 bits: what does not fit otherwise trains, and its codec encodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from runs import invoke, losses, passages, sets

from jobs.train.run_folder import RunFolder
from model.bytes_tokenizer import bytes_tokenizer
from model.codec_io import load_codec
from model.config import VerifyConfig
from model.memory import StoredMemory
from model.tiny import tiny_model

pytestmark = pytest.mark.training

SETTINGS = {
    "load_in_4bit": "true", "precision": "fp32", "chunk_tokens": 24, "num_latents": 2, "lora_rank": 8,
    "learning_rate": 5e-3, "stage1_steps": 60, "substage_steps": 4, "batch_size": 4, "micro_batch": 4, "eval_every": 30,
    "patience": 0, "held_out": 2, "min_tokens": 8, "warmup_steps": 2, "checkpoint_minutes": 60, "samples": 1,
    "trains": "both",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run to its end, over a model folder such as `save_pretrained` writes."""
    folder = tmp_path_factory.mktemp("four_bit")
    model = folder / "model"
    tiny_model("tiny-qwen3").save_pretrained(model)
    bytes_tokenizer().save(str(model / "tokenizer.json"))
    data = passages(folder)
    words = ["train", str(folder / "run"), "--data", str(data), "--backbone", str(model), "--no-ray", *sets(**SETTINGS)]
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_the_loss_falls_below_the_backbones_own(run):
    rows = RunFolder(run).rows()
    plain = next(row["loss"] for row in rows if row["event"] == "plain")
    measured = losses(run)
    assert len(measured) == 60 + 2 * 4
    assert measured[59][1] < 0.7 * plain < measured[0][1]


def test_its_codec_loads_in_4_bits_and_recalls_exactly(run):
    assert json.loads((run / "codec" / "codec.json").read_text())["config"]["load_in_4bit"]
    codec = load_codec(run / "codec", device="cpu", precision="fp32")
    assert {type(module).__name__ for module in codec.backbone.body.modules()} >= {"Linear4bit"}
    chunks = [np.array(codec.tokenizer.encode(f"Ana paid {number}")) for number in (17, 42, 99)]
    rows = [
        StoredMemory(m.codes, m.scales, len(ids), m.patch, lambda found, ids=ids: np.array_equal(found, ids))
        for ids, m in zip(chunks, codec.memorise(chunks), strict=True)
    ]
    assert all(recalled.exact for recalled in codec.recall(rows))
    bank = load_codec(run / "codec", device="cpu", verifying=VerifyConfig("fp32", 0.05, merged=True))
    assert bank.merged is None and bank.wrapped is not None  # 4-bit weights take no sum
