"""Start Ray, or join the cluster that RAY_ADDRESS names, with our packages as the workers' working_dir.

Without the working_dir a stray model.py in the user's folder would shadow ours inside Ray's workers. It is a staged copy
of the three packages, so that a checkout and an installed wheel behave alike.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("model", "pipeline", "jobs")
SPARE_CPUS = 3  # logical: readers, the ledger and Ray's own tasks beside actors that hold every core
PASSED_ON = ("NEXTMEM_CACHE", "HF_HOME", "HF_HUB_OFFLINE")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to work with."""

    gpus: int
    cores: int  # real ones on this machine, or the cluster's CPUs
    is_local: bool


@contextmanager
def running(*, num_gpus: int | None = None) -> Iterator[Cluster]:
    """A Ray session for the length of a job. A session that runs already, as in tests, is used and left alone."""
    import ray

    if ray.is_initialized():
        yield _cluster(is_local=True)
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    with tempfile.TemporaryDirectory(prefix="nextmem-") as staging:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = {"num_cpus": cores() + SPARE_CPUS, "num_gpus": num_gpus, "include_dashboard": False}
        ray.init(
            address,
            runtime_env=runtime_env(Path(staging)),
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(local if address == "local" else {}),
        )
        try:
            yield _cluster(is_local=address == "local")
        finally:
            ray.shutdown()


def runtime_env(staging: Path) -> dict:
    """The runtime environment of every worker: our packages, staged, and the variables that say where caches are."""
    target = staging / "working_dir"
    for package in PACKAGES:
        source = Path(importlib.util.find_spec(package).origin).parent
        shutil.copytree(source, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"working_dir": str(target), "env_vars": passed}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cluster(*, is_local: bool) -> Cluster:
    import ray

    resources = ray.cluster_resources()
    return Cluster(int(resources.get("GPU", 0)), cores() if is_local else int(resources.get("CPU", 1)), is_local)
