"""A backbone shared out among workers: the losses of one that each worker holds whole, and half of the layers each."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
import torch
from ports import free_ports
from runs import fresh, invoke, losses, passages

from jobs.settings import apply_settings
from jobs.train.loop import HaltedError, LoopOptions, _require_even, run_loop
from jobs.train.run_folder import RunFolder
from model.backbone import load_backbone
from model.config import CodecConfig
from model.training.passages import Passages
from model.training.trainee import Trainee

pytestmark = pytest.mark.training

WORKERS = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run in one process, and the passages that it prepared."""
    folder = tmp_path_factory.mktemp("runs")
    data = passages(folder, [f"Ana paid {101 * i} to B{i}" for i in range(1, 61)])
    assert invoke(*fresh(folder / "run", data, "--no-ray", held_out=4)).exit_code == 0
    assert Passages.open(RunFolder(folder / "run").data).held_out >= WORKERS
    return folder / "run"


def test_shared_out_it_trains_to_the_same_losses_and_writes_a_codec(whole, tmp_path):
    """And each worker holds half of the layers, and all of its adapters."""
    run = started(whole, tmp_path / "run", shard_backbone="true")
    in_workers(str(run))
    assert losses(run) == [(step, pytest.approx(loss, rel=1e-3)) for step, loss in losses(whole)]
    assert len((run / "samples.jsonl").read_text().splitlines()) == 3
    assert (run / "codec" / "codec.json").is_file()
    plain = Trainee(load_backbone("tiny-llama", precision="fp32", device="cpu"), CodecConfig(num_latents=2))
    for rank in range(WORKERS):
        layers, adapters = map(int, (run / f"held-{rank}").read_text().split())
        assert layers == pytest.approx(held(plain, adapters=False) / WORKERS, rel=0.01)
        assert adapters == held(plain, adapters=True)


@pytest.mark.parametrize(
    ("settings", "held_out", "said"),
    [
        ({"batch_size": 3}, 4, "batch_size=3 must be a multiple of the 2 workers"),
        ({}, 1, "each of 2 workers needs a held-out chunk; there are 1"),
        ({"load_in_4bit": "true"}, 4, "shard_backbone and load_in_4bit do not go together"),
        ({"compile_layers": "true"}, 4, "shard_backbone and compile_layers do not go together"),
    ],
)
def test_what_would_leave_workers_waiting_for_each_other_is_refused(whole, tmp_path, settings, held_out, said):
    run = started(whole, tmp_path / "run", shard_backbone="true", **settings)
    with pytest.raises(HaltedError, match=said):
        _require_even(RunFolder(run).settings(), WORKERS, held_out)


def started(whole: Path, run: Path, **settings) -> Path:
    """A run folder as the command leaves it for its workers, on the passages of the other run."""
    asked = RunFolder(whole).settings()
    train, codec = apply_settings([f"{name}={value}" for name, value in settings.items()], asked.train, asked.codec)
    RunFolder(run).adopt(dataclasses.replace(asked, train=train, codec=codec), change=False)
    shutil.copytree(RunFolder(whole).data, RunFolder(run).data)
    return run


def in_workers(run: str) -> None:
    [port] = free_ports(1)
    torch.multiprocessing.spawn(_worker, (run, port), nprocs=WORKERS)


def _worker(rank: int, run: str, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    assert run_loop(LoopOptions(run, "cpu"), observe=lambda row: None, say=lambda line: None)
    backbone = load_backbone("tiny-llama", precision="fp32", device="cpu")
    trainee = Trainee(backbone, CodecConfig(num_latents=2), shard_on="cpu")
    Path(run, f"held-{rank}").write_text(f"{held(trainee, adapters=False)} {held(trainee, adapters=True)}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def held(trainee: Trainee, *, adapters: bool) -> int:
    """Values of the layers that this process holds: of the adapters, or of the frozen rest."""
    parameters = (p for name, p in trainee.backbone.body.layers.named_parameters() if ("lora_" in name) == adapters)
    return sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in parameters)
