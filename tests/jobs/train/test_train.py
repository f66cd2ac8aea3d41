"""`nextmem train --no-ray` on a tiny backbone: the folder it leaves, going on, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from runs import fresh, invoke, losses, passages, sets
from safetensors.torch import load_file

from jobs.train.run_folder import RunFolder
from jobs.train.train import MAY_DIFFER
from model.codec_io import load_codec
from model.config import CodecConfig
from model.training.checkpoints import TENSORS
from model.training.passages import CARD, VERSION, data_version

pytestmark = pytest.mark.training

FORBIDDEN = ("ray", "bitsandbytes", "deltalake", "gguf", "pyarrow", "datasets", "platformdirs", "matplotlib")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return passages(tmp_path_factory.mktemp("passages"))


@pytest.fixture(scope="module")
def done(tmp_path_factory, data) -> Path:
    """A run that went to its end."""
    run = tmp_path_factory.mktemp("runs") / "done"
    result = invoke(*fresh(run, data, "--no-ray"))
    assert result.exit_code == 0, result.output
    return run


def test_a_run_leaves_its_folder_and_a_codec_that_loads(done):
    assert [step for step, _ in losses(done)] == list(range(8))
    ends = [row for row in RunFolder(done).rows() if row["event"] == "end"]
    assert [(row["stage"], row["substage"]) for row in ends] == [(1, 0), (2, 1), (2, 2)]
    for name in ("config.json", "plots/stage1.png", "plots/stage2.png"):
        assert (done / name).is_file(), name
    assert list((done / "tensorboard").iterdir())
    assert len((done / "samples.jsonl").read_text().splitlines()) == 3
    codec = load_codec(done / "codec", device="cpu")
    assert codec.wrapped is not None and codec.statistics.deviation_D.std() > 0
    memory = codec.memorise([np.array(codec.tokenizer.encode("Ana paid 7 to B"))])[0]
    assert memory.fidelity is not None


def test_the_row_of_a_step_says_how_fast_and_how_much(done):
    row = next(row for row in RunFolder(done).rows() if row["event"] == "step")
    assert row["tokens"] > 0 and row["tokens_per_second"] > 0 and row["memory_mb"] > 0
    assert row["share_of_limit"] > 0 and row["steps_left"] == 7
    assert RunFolder(done).rows()[0]["event"] == "plain"  # the backbone alone, to compare with


def test_a_finished_run_trains_nothing_more(done):
    before = losses(done)
    result = invoke("train", str(done), "--no-ray")
    assert result.exit_code == 0 and "trained to its end" in result.stderr
    assert losses(done) == before


@pytest.mark.parametrize("minutes", ["0.00001"])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path, data, done, minutes):
    run = tmp_path / "run"
    first = invoke(*fresh(run, data, "--no-ray", "--minutes", minutes))
    assert first.exit_code == 0 and "goes on" in first.stderr
    while not (run / "codec").exists():
        assert invoke("train", str(run), "--no-ray", "--minutes", minutes).exit_code == 0
    assert losses(run) == losses(done)


def test_a_run_that_is_stopped_gives_the_codec_of_its_latest_checkpoint(tmp_path, data, done):
    run, out = tmp_path / "run", tmp_path / "codec"
    refused = invoke("train", str(run), "--export", str(out))
    assert refused.exit_code == 1 and "has no checkpoint to make a codec of; train there first" in refused.output
    assert invoke(*fresh(run, data, "--no-ray"), "--minutes", "0.00001").exit_code == 0
    rows = RunFolder(run).rows()
    result = invoke("train", str(run), "--export", str(out))
    assert result.exit_code == 0, result.output
    codec = load_codec(out, device="cpu")
    stored = load_file(out / "codec.safetensors")
    assert codec.identity != load_codec(done / "codec", device="cpu").identity
    assert {tensor.dtype for name, tensor in stored.items() if "lora" in name} == {torch.bfloat16}
    assert RunFolder(run).rows() == rows and not (run / "codec").exists()
    again = invoke("train", str(run), "--export", str(out))
    assert again.exit_code == 1 and "exists already; name a new folder for the codec" in again.output
    assert invoke("train", str(run), "--export", str(out), "--minutes", "1").exit_code == 2


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path, data, done):
    """SIGKILL while it trains; the same command takes the same steps as the run that was never killed."""
    run = tmp_path / "run"
    words = fresh(run, data, "--no-ray", checkpoint_every=2)
    started = subprocess.Popen(
        [sys.executable, "-m", "nextmem.cli", *words], stderr=subprocess.DEVNULL, env=_one_thread()
    )
    metrics = run / "metrics.jsonl"
    while started.poll() is None and (not metrics.exists() or metrics.read_text().count('"step", ') < 4):
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert invoke("train", str(run), "--no-ray").exit_code == 0
    assert losses(run) == losses(done)


def test_a_torn_checkpoint_is_passed_over_and_said(tmp_path, data, done):
    run = tmp_path / "run"
    invoke(*fresh(run, data, "--no-ray", "--minutes", "0.00001"))
    invoke("train", str(run), "--no-ray", "--minutes", "0.00001")
    latest = run / "checkpoints" / RunFolder(run).checkpoints(3).latest()
    (latest / TENSORS).write_bytes(b"torn")
    result = invoke("train", str(run), "--no-ray")
    assert result.exit_code == 0 and f"{latest.name} is torn" in result.stderr
    assert losses(run) == losses(done)


def test_other_settings_are_refused_by_name_unless_told(tmp_path, data):
    run = tmp_path / "run"
    invoke(*fresh(run, data, "--no-ray", "--minutes", "0.00001"))
    refused = invoke("train", str(run), "--no-ray", *sets(learning_rate=0.1))
    assert refused.exit_code == 1 and "learning_rate is 0.0005, asked for 0.1" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    never = invoke("train", str(run), "--no-ray", "--change", *sets(num_latents=4))
    assert never.exit_code == 1 and "cannot change: num_latents is 2, asked for 4" in never.stderr
    assert invoke("train", str(run), "--no-ray", "--change", *sets(learning_rate=0.1)).exit_code == 0
    assert RunFolder(run).settings().train.learning_rate == 0.1


def test_a_start_codec_gives_its_shape_and_its_weights(tmp_path, data, done):
    run = tmp_path / "run"
    words = ["train", str(run), "--data", str(data), "--no-ray", "--stage", "2", "--init", str(done / "codec")]
    short = sets(first_substage=2, substage_steps=1, held_out=2, min_tokens=8, batch_size=4, learning_rate=1e-9)
    assert invoke(*words, *short).exit_code == 0
    before, after = (load_codec(folder / "codec", device="cpu") for folder in (done, run))
    assert after.config == before.config and torch.allclose(after.marker_D, before.marker_D)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("lora_rank=8", "lora_rank 2, the run 8"),
        ("lora_alpha=7", "lora_alpha 32, the run 7"),
        ("lora_targets=q_proj", "lora_targets 'all-linear', the run 'q_proj'"),
        ("latent_gain=raw", "latent_gain 'linear', the run 'raw'"),
        ("decoder_start=none", "decoder_start 'end-of-text', the run 'none'"),
        ("marker_word=again", "marker_word 'repeat', the run 'again'"),
    ],
)
def test_a_start_codec_that_means_something_else_is_refused(tmp_path, data, done, change, said):
    """Adapters that were trained at another scale, or for a decoder that starts otherwise, begin as noise."""
    words = ["--data", str(data), "--no-ray", "--stage", "2", "--init", str(done / "codec"), "--set", change]
    other = invoke("train", str(tmp_path / "other"), *words)
    assert other.exit_code == 1 and said in other.stderr
    assert not (tmp_path / "other").exists()


def test_all_of_a_codec_is_compared_with_the_runs_but_what_may_differ():
    """A field that is new must be thought of: its name stands here or among MAY_DIFFER."""
    compared = {
        "latents", "lora_rank", "lora_alpha", "lora_targets", "latent_gain", "decoder_start", "marker_word",
    }  # fmt: skip
    assert set(CodecConfig().as_dict()) == compared | set(MAY_DIFFER)


def test_stage_1_alone_leaves_what_stage_2_begins_with(tmp_path, data):
    """Its decoder's adapter on the encoder too, and a measured gain: what a run of both stages has there."""
    alone, on = tmp_path / "stage1", tmp_path / "stage2"
    assert invoke(*fresh(alone, data, "--no-ray", "--stage", "1")).exit_code == 0
    tensors = load_file(alone / "codec" / "codec.safetensors")
    decoder = {name.removeprefix("decoder."): each for name, each in tensors.items() if name.startswith("decoder.")}
    assert decoder and all(torch.equal(tensors[f"encoder.{name}"], each) for name, each in decoder.items())
    assert any(each.abs().max() > 0 for name, each in decoder.items() if "lora_B" in name)
    assert tensors["gain_map"].abs().max() > 0
    assert invoke(*fresh(on, data, "--no-ray", "--stage", "2", "--init", str(alone / "codec"))).exit_code == 0
    assert torch.isfinite(load_codec(on / "codec", device="cpu").gain.map_DD).all()


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["short"], "1 passage in .*, 0 with a chunk of 8 tokens or more; 2 are wanted"),
        (["One that is long enough, and alone"], "1 passage in .*, 1 with a chunk of 8 tokens or more; 2 are wanted"),
        (["short"] * 3 + ["One that is long enough"], "4 passages in .*, 1 with a chunk of 8 tokens or more; 2 are"),
        ([" "], "no readable passages"),
        (None, "no passages at"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing(tmp_path, data, texts, said):
    """And so the same folder is free for the next one."""
    path = passages(tmp_path, texts) if texts else tmp_path / "nowhere"
    result = invoke(*fresh(tmp_path / "run", path, "--no-ray"))
    assert result.exit_code == 1 and re.search(said, result.stderr)
    assert "Traceback" not in result.stderr and not (tmp_path / "run").exists()
    assert invoke(*fresh(tmp_path / "run", data, "--no-ray", "--minutes", "0.00001")).exit_code == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"first_substage": 3}, "first_substage is 3; it must be at most num_latents"),
        ({"compile_layers": "true"}, "compile_layers needs a C"),  # known only once the passages are prepared
    ],
)
def test_a_start_that_is_refused_late_leaves_nothing_either(tmp_path, data, monkeypatch, settings, said):
    monkeypatch.setattr("model.training.compiled._has_compiler", lambda: False)
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    result = invoke(*fresh(run, data, "--no-ray", **settings))
    assert result.exit_code == 1 and said in result.stderr
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    assert invoke(*fresh(run, data, "--no-ray", "--minutes", "0.00001")).exit_code == 0


def test_a_start_that_is_interrupted_before_it_trains_leaves_nothing(tmp_path, data, monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.train.loop.load_backbone", interrupted)
    result = invoke(*fresh(tmp_path / "run", data, "--no-ray"))
    assert result.exit_code != 0 and not (tmp_path / "run").exists()


def test_a_refused_start_leaves_what_another_process_holds(tmp_path, data, monkeypatch):
    """Both began on one folder; the second waited in vain for the lock."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    monkeypatch.setattr("jobs.train.run_folder.LOCK_SECONDS", 0.1)
    with run.lock():
        result = invoke(*fresh(run.path, data, "--no-ray"))
    assert result.exit_code == 1 and "another process trains in" in result.stderr
    assert run.config.exists() and run.data.exists()


def test_a_folder_that_holds_data_of_a_persons_own_is_refused_and_left_alone(tmp_path, data):
    own = tmp_path / "run" / "data" / "mine.jsonl"
    own.parent.mkdir(parents=True)
    own.write_text(data.read_text())
    result = invoke(*fresh(tmp_path / "run", own, "--no-ray"))
    assert result.exit_code == 1 and "is no data of a run: name another folder" in result.stderr
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [own]


def test_data_of_an_earlier_cut_are_not_mixed_in(tmp_path, data):
    run = RunFolder(tmp_path / "run")
    assert invoke(*fresh(run.path, data, "--no-ray", "--minutes", "0.00001")).exit_code == 0
    card = json.loads((run.data / CARD).read_text())
    assert card.pop("version") == VERSION
    (run.data / CARD).write_text(json.dumps(card))
    refused = invoke("train", str(run.path), "--no-ray")
    assert refused.exit_code == 1 and "--change reads the passages again" in refused.stderr
    assert data_version(run.data) == 1
    assert invoke("train", str(run.path), "--no-ray", "--change").exit_code == 0
    assert data_version(run.data) == VERSION and [step for step, _ in losses(run.path)] == list(range(8))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path, kind):
    path = tmp_path / f"articles.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"title": ["a"], "body": ["b"]}), path)
    else:
        path.write_text('{"title": "a", "body": "b"}\n')
    result = invoke(*fresh(tmp_path / "run", path, "--no-ray"))
    assert result.exit_code == 1 and len(result.stderr.splitlines()) <= 3
    last = result.stderr.splitlines()[-1]
    assert "articles" in last and "column 'text'" in last and "title, body: --set text_column=NAME" in last
    assert not (tmp_path / "run").exists()


def test_an_unreadable_file_is_left_out_and_said(tmp_path):
    good = {"text": [f"Ana paid {101 * i} to B{i}" for i in range(12)]}
    pq.write_table(pa.table(good), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    result = invoke(*fresh(tmp_path / "run", tmp_path, "--no-ray", "--minutes", "0.00001"))
    assert result.exit_code == 0, result.output
    assert "bad.parquet" in result.stderr and "12 passages" in result.stderr


def test_a_run_that_is_none_is_refused(tmp_path):
    result = invoke("train", str(tmp_path / "run"), "--no-ray")
    assert result.exit_code == 1 and "name its passages with --data" in result.stderr


@pytest.mark.parametrize("words", [["s3://b/run", "--data", "p"], ["run", "--data", "s3://b/p"]])
def test_an_object_store_is_refused_before_anything_is_made(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    refused = invoke("train", *words, "--no-ray")
    assert refused.exit_code == 1 and "training reads and writes folders" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_a_number_stops_with_its_batch(tmp_path, data):
    result = invoke(*fresh(tmp_path / "run", data, "--no-ray", learning_rate=1e30, clip=1e30))
    assert result.exit_code == 1, result.output
    assert "in the batch of chunks" in result.stderr and "The last good checkpoint is 0000000" in result.stderr


def test_a_full_disk_stops_with_one_line_and_keeps_what_was_good(tmp_path, data):
    """A limit on file sizes stands in for the disk: the third checkpoint no longer fits."""
    run = tmp_path / "run"
    assert invoke(*fresh(run, data, "--no-ray", "--minutes", "0.00001")).exit_code == 0
    whole = RunFolder(run).checkpoints(3).latest()
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000));"
        "from nextmem.cli import main; main(['train', sys.argv[1], '--no-ray'])"
    )
    done = subprocess.run([sys.executable, "-c", limited, str(run)], capture_output=True, text=True, env=_one_thread())
    assert done.returncode == 1 and f"the last good checkpoint is {whole}" in done.stderr
    assert "could not be written: File too large" in done.stderr.splitlines()[-1]


def test_training_alone_needs_neither_ray_nor_what_a_bank_needs(tmp_path, data):
    """On a machine with torch, transformers, peft and safetensors only; JSONL needs no pyarrow."""
    blocked = (
        "import sys\n"
        f"for name in {FORBIDDEN!r}: sys.modules[name] = None\n"
        "from nextmem.cli import main; main(sys.argv[1:])"
    )
    words = fresh(tmp_path / "run", data, "--no-ray", stage1_steps=1, substage_steps=1, quantise_in_loop=True)
    done = subprocess.run([sys.executable, "-c", blocked, *words], capture_output=True, text=True, env=_one_thread())
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "codec" / "codec.json").read_text())["config"]["num_latents"] == 2


def _one_thread() -> dict:
    cache = os.environ.get("NEXTMEM_CACHE", str(Path.home() / ".cache" / "nextmem"))
    return os.environ | {"OMP_NUM_THREADS": "1", "NEXTMEM_CACHE": cache}
