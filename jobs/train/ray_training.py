"""Ray Train around the loop: gloo on CPUs, nccl on GPUs. Ray starts the workers and starts them again; the checkpoints,
the sampler and the all-reduce are ours, so any number of workers goes on where another stopped.
"""

from __future__ import annotations

import os

START_SECONDS = 1800  # to wait for workers: a node that an autoscaling cluster starts takes minutes, and Ray waits 60 s


def fit(
    options: dict, *, workers: int, gpus: bool, pool: str | None, name: str, storage: str, max_failures: int
) -> str | None:
    """Run the loop on `workers` workers to its end. Returns what stopped it for good, if Ray had to give up."""
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        _work,
        train_loop_config=options,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus,
            resources_per_worker=_resources(gpus),
            label_selector={"pool": pool} if pool else None,
        ),
        run_config=RunConfig(name=name, storage_path=storage, failure_config=FailureConfig(max_failures=max_failures)),
    )
    try:
        error = trainer.fit().error
    except Exception as raised:  # ray wraps whatever a worker dies of in one of several classes
        error = raised
    return None if error is None else f"training stopped: {_last_line(error)}."


def _work(options: dict) -> None:
    """One worker. What a person must mend is written down, not raised: Ray would try it again."""
    import sys

    import torch

    from jobs.train.loop import HaltedError, LoopOptions, run_loop, write_error

    if not torch.cuda.is_available():
        torch.set_num_threads(options["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first = torch.distributed.get_rank() == 0
    try:
        run_loop(
            LoopOptions(options["folder"], device, options["deadline"]),
            observe=lambda row: None,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except HaltedError as error:
        if first:
            write_error(options["folder"], error)


def _resources(gpus: bool) -> dict:
    return {"CPU": 1, "GPU": 1} if gpus else {"CPU": 1}


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
