"""Start Ray, or join the cluster that RAY_ADDRESS names, with our packages as the workers' working_dir.

Without the working_dir a stray model.py in the user's folder would shadow ours inside Ray's workers. It is a staged
copy of the three packages, so that a checkout and an installed wheel behave alike. A job that was submitted has them
already: its submitter sent them, for the command and its workers alike.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster.head_watch import HeadWatch
from jobs.cluster.knock import require_answer
from jobs.cluster.ray_folder import ray_folder, require_home
from jobs.cluster.token import join_with_token
from jobs.stopping import Stopped, keeping_handlers
from model.refusal import Refusal, Unavailable

PACKAGES = ("model", "pipeline", "jobs", "nextmem")
SPARE_CPUS = 3  # logical: readers, the ledger and Ray's own tasks beside encoders that hold every core
LEVEL_NOTE = "Set ray log level from environment variable"  # Ray says so on every start
PASSED_ON = (  # where things lie; never a credential: a runtime environment is shown on the dashboard and logged
    "NEXTMEM_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT",
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "MALLOC_ARENA_MAX",
)  # fmt: skip
WORKERS = {"MALLOC_ARENA_MAX": "1"}  # a thread's own arena gives back what it frees (model/allocator.py)
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for a submitted command, to the job's runtime environment


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to work with, now: an autoscaling cluster may have no node up yet."""

    gpus: int
    cores: int  # real ones on this machine, or the cluster's CPUs
    is_local: bool


class Session:
    """Ray for the length of a job, started when it is first needed. A session that runs already is left running.

    `pool`: count only nodes with the label pool=... ValueError on this machine alone, which has no labels.
    `metrics_port`: where this machine's Ray serves its metrics; a cluster that is joined has its own.
    `say`: is told that Ray starts here, which takes seconds.
    """

    def __init__(
        self,
        pool: str | None = None,
        *,
        metrics_port: int | None = None,
        say: Callable[[str], object] = lambda line: None,
    ):
        if pool and _address() == "local" and not _is_running():
            raise Refusal(f"--pool {pool} is a label of a cluster's nodes, and RAY_ADDRESS names no cluster")
        self.pool, self._metrics_port, self._say = pool, metrics_port, say
        self._opened = ExitStack()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_) -> None:
        self._opened.close()

    def look(self) -> Cluster:
        """What there will be to work with; on this machine alone, without starting anything."""
        return self.start() if _address() != "local" or _is_running() else this_machine()

    def start(self) -> Cluster:
        """Start or join Ray, once."""
        is_local = _address() == "local"
        if not _is_running():
            require_reachable()
            if is_local:
                self._say("starting Ray on this machine")
            import ray

            staging = self._opened.enter_context(tempfile.TemporaryDirectory(prefix="nextmem-"))
            self._opened.callback(ray.shutdown)
            self._init(beside_the_job(runtime_env(Path(staging))))
            if not is_local:
                self._opened.enter_context(HeadWatch(ray.get_runtime_context().gcs_address))
        return Cluster(self._count("GPU"), cores() if is_local else max(1, self._count("CPU")), is_local)

    def _count(self, resource: str) -> int:
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"]]
        return int(sum(node["Resources"].get(resource, 0) for node in nodes
                       if self.pool in (None, node.get("Labels", {}).get("pool"))))  # fmt: skip

    def _init(self, environment: dict | None) -> None:
        import ray
        from ray.exceptions import RayError

        local = {}
        if _address() == "local":
            require_home()
            local = {"num_cpus": cores() + SPARE_CPUS, "include_dashboard": False}
            local |= {"_metrics_export_port": self._metrics_port} if self._metrics_port else {}
            local |= {"_temp_dir": folder} if (folder := ray_folder()) else {}
        keep_stdout()
        try:
            with keeping_handlers(), _stderr_without(LEVEL_NOTE):
                ray.init(
                    _address(),
                    runtime_env=environment,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **local,
                )
        except (RuntimeError, ConnectionError, ValueError, RayError) as error:
            raise Unavailable(_not_begun(error)) from error
        except SystemExit as end:  # what Ray's own handler of SIGTERM raises meanwhile
            raise Stopped(signal.SIGTERM) if end.code == signal.SIGTERM else end from None


def require_reachable() -> None:
    """Raises Refusal or Unavailable, within half a minute, where RAY_ADDRESS names no Ray that answers."""
    if not _is_running():
        set_variables()
        require_answer(_address())


def _not_begun(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if _address() == "local":
        return f"Ray could not be started on this machine: {said}"
    return f"the Ray at {_address()}, which RAY_ADDRESS names, could not be joined: {said}"


def this_machine() -> Cluster:
    """What there is without any Ray."""
    return Cluster(_local_gpus(), cores(), is_local=True)


def set_variables() -> None:
    """What Ray and tokenizers read from the environment; what a person has set stays. To be called where a job starts,
    before Ray is imported, which is when it reads some of them.

    Ray's own chatter is off: results and one progress bar are what a person reads. Its logs stay in its folder.
    """
    join_with_token()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns whenever Ray starts a process
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # else a late call to Ray starts it again while we end
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of each actor pool's own closure on every run
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # idle workers, a second of CPU each, never used
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # of 5: a busy machine's proxy takes longer


def keep_stdout() -> None:
    """Ray prints lost nodes and tasks that it tries again on the driver's stdout, where our results and JSON go, and
    has no setting for it. They stay in its logs."""
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = False


@contextmanager
def _stderr_without(note: str) -> Iterator[None]:
    """Hold back what is written to stderr, by C++ too, and pass it on after, without the lines that hold `note`."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            os.write(2, b"".join(line for line in held if note.encode() not in line))


def _address() -> str:
    return os.environ.get("RAY_ADDRESS") or "local"


def beside_the_job(ours: dict) -> dict | None:
    """What a submitted command may add to its job's runtime environment: Ray refuses whatever both of them set."""
    job = json.loads(os.environ.get(SUBMITTED, "{}")).get("runtime_env", {})
    if "working_dir" in job:
        return None
    held = job.get("env_vars") or {}
    return ours | {"env_vars": {name: value for name, value in ours["env_vars"].items() if name not in held}}


def _is_running() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _local_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return min(present, len([v for v in visible.split(",") if v])) if visible is not None else present


def runtime_env(staging: Path) -> dict:
    """The runtime environment of every worker: our packages, staged, and the variables that say where things lie."""
    target = staging / "working_dir"
    for package in PACKAGES:
        source = Path(importlib.util.find_spec(package).origin).parent
        shutil.copytree(source, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if cache := passed.get("NEXTMEM_CACHE"):
        passed["NEXTMEM_CACHE"] = os.path.abspath(cache)  # workers run in another folder
    return {"working_dir": str(target), "env_vars": WORKERS | passed}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
