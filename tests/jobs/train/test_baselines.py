"""`nextmem train --system`: each baseline trains, stops, goes on to the same end, and is evaluated like a codec."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import fresh, invoke, losses, passages
from safetensors.torch import load_file

from jobs.evaluate.budget import budget
from jobs.evaluate.opened import open_systems
from jobs.evaluate.system import Opening
from jobs.train.run_folder import RunFolder
from model.baselines.settings import DYPRAG, SYSTEMS
from model.codec_folder import read_settings

pytestmark = pytest.mark.training

TEXTS = ["Ana paid 303 to B3", "Ana paid 404 to B4"]
RANKS = {"icae": {"lora_rank": 2}}  # the published rank is wider than a tiny layer


def start(run: Path, data: Path, system: str, *more: str, **settings) -> list[str]:
    own = {"learning_rate": 3e-3, **RANKS.get(system, {}), **settings}
    return fresh(run, data, "--system", system, "--no-ray", *more, **own)


def tensors(run: Path) -> dict:
    (file,) = (run / "codec").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_a_baseline_that_is_stopped_goes_on_to_the_same_end(system, tmp_path):
    data = passages(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ran = invoke(*start(whole, data, system))
    assert ran.exit_code == 0, ran.output
    ran = invoke(*start(parts, data, system, "--minutes", "0"))
    assert ran.exit_code == 0 and not (parts / "codec").exists() and len(losses(parts)) < len(losses(whole)), ran.output
    ran = invoke("train", str(parts), "--no-ray")
    assert ran.exit_code == 0, ran.output
    assert losses(parts) == losses(whole) and len(losses(whole)) >= 2
    mine, other = tensors(parts), tensors(whole)
    assert all(mine[name].equal(other[name]) for name in other)
    assert RunFolder(parts).settings().system == system


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_a_trained_baseline_is_a_system_of_the_evaluation(system, tmp_path):
    run = tmp_path / "run"
    assert invoke(*start(run, passages(tmp_path), system)).exit_code == 0
    opened, faults = open_systems([str(run / "codec")], Opening(precision="fp32"))
    assert not faults
    (made, *_) = opened
    assert made.about["trained_steps"] == len(losses(run)) and made.about["trained_flop"] > 0
    memories = made.encode(TEXTS)
    drafts = made.decode(memories)
    assert len(drafts) == 2 and all(memory.stored_bytes > 0 for memory in memories)
    if system not in DYPRAG:
        assert read_settings(run / "codec")["config"]["latents"] == made.about["made"]


def test_icae_as_published_leaves_its_decoder_the_backbone(tmp_path):
    run = tmp_path / "run"
    assert invoke(*start(run, passages(tmp_path), "icae")).exit_code == 0
    found = tensors(run)
    decoder = {name: tensor for name, tensor in found.items() if name.startswith("decoder.")}
    assert decoder and not any(tensor.abs().max() for name, tensor in decoder.items() if "lora_B" in name)
    assert any(tensor.abs().max() for name, tensor in found.items() if name.startswith("encoder.") and "lora_B" in name)
    assert {name.rsplit(".lora", 1)[0].rsplit(".", 1)[-1] for name in decoder} == {"q_proj", "v_proj"}
    assert "slots" in found and "gain" not in found


def test_a_lora_per_chunk_needs_no_training(tmp_path):
    opened, faults = open_systems(["lora"], Opening(backbone="tiny-llama", precision="fp32"))
    (made,) = opened
    assert not faults and made.encode(TEXTS)[0].work == 180.0


def test_a_run_stays_the_system_that_it_is(tmp_path):
    run, data = tmp_path / "run", passages(tmp_path)
    invoke(*start(run, data, "dyprag-ours", "--minutes", "0"))
    ran = invoke("train", str(run), "--no-ray", "--system", "icae")
    assert ran.exit_code == 1 and "system is 'dyprag-ours', asked for 'icae'" in ran.output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--system", "gpt"], "there is no system 'gpt' to train; there are head, reader, nextmem, icae"),
        (["--system", "dyprag", "--stage", "both"], "dyprag has one stage, not 'both'"),
        (["--system", "dyprag", "--set", "compile_layers=true"], "dyprag is not trained with compile_layers"),
    ],
)
def test_what_a_baseline_cannot_is_refused_before_there_is_a_run(more, said, tmp_path):
    ran = invoke(*fresh(tmp_path / "run", passages(tmp_path), "--no-ray", *more))
    assert ran.exit_code == 1 and said in ran.output and not (tmp_path / "run").exists()


def test_a_dyprag_without_its_folder_says_how_to_train_one():
    _, [(name, why)] = open_systems(["dyprag"], Opening(backbone="tiny-llama"))
    assert name == "dyprag" and "nextmem train RUN --system dyprag" in why


def test_a_budget_is_of_the_run_around_a_codec_and_of_no_other(tmp_path):
    assert budget(None) == {} and budget(tmp_path / "codec") == {}
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "metrics.jsonl").write_text(
        '{"event": "step", "tokens": 7, "flop": 2.0}\n{"event": "step", "tokens": 5, "flop"'
    )
    assert budget(tmp_path / "codec") == {"trained_steps": 1, "trained_tokens": 7, "trained_flop": 2.0}
    assert budget(tmp_path / "other") == {}
