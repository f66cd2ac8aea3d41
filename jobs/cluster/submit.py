"""`nextmem submit`: an encode or train command, sent to a cluster with our packages, run there by the cluster's Python.

A submission's id is made of its command and a number: the same command is refused while it is pending or running, and
may come again once that one has ended, which is how a job is resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jobs.cluster.job_server import JobServer, SubmittedJob
from jobs.cluster.session import PASSED_ON, runtime_env
from model.default_codec import UNTRAINED
from model.refusal import Refusal, Taken

PATHS = {"encode": ("corpus", "bank", "codec"), "train": ("run", "data", "init")}
FOLDERS = ("run", "data", "init")  # read and written through the file system
STOP = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "60"}  # as Ctrl-C: what is finished is committed
SECRET = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "ACCESS_KEY", "API_KEY")


@dataclass(frozen=True, slots=True)
class Command:
    """`nextmem VERB ...`, checked by the verb's own parser."""

    words: tuple[str, ...]  # the verb first
    parameters: dict[str, object]

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def stem(self) -> str:
        """The same for the same work, however its options are ordered."""
        settled = json.dumps([self.words[0], self.parameters], sort_keys=True, default=str)
        return f"{self.words[0]}-{hashlib.sha256(settled.encode()).hexdigest()[:10]}"


def submit(server: JobServer, command: Command, variables: dict[str, str]) -> str:
    """Its submission id. Raises FileExistsError where the same command is under way, ValueError for bad input."""
    require_cluster_paths(command)
    submission_id = _next_id(command, server)
    with tempfile.TemporaryDirectory(prefix="nextmem-") as staging:
        environment = _environment(Path(staging), variables)
        server.submit(command.text, f"exec sh jobs/cluster/start.sh {command.text}", submission_id, environment)
    return submission_id


def require_cluster_paths(command: Command) -> None:
    """Refuse what would name another place on the cluster than here, and object stores where a folder is wanted."""
    for name in PATHS[command.words[0]]:
        value = command.parameters[name]
        for path in value if isinstance(value, tuple) else (value,):
            if path and not _is_clear(str(path), name):
                raise Refusal(f"{name} {path!r} would be another place on the cluster: give {_wanted(name)}")
    backbone = str(command.parameters["backbone"] or "")
    is_folder_here = bool(backbone) and not backbone.startswith("/") and Path(backbone).is_dir()
    if backbone.startswith((".", "~")) or is_folder_here:
        raise Refusal(f"backbone {backbone!r} would be another place on the cluster: give {_wanted('backbone')}")


def require_public(variables: dict[str, str]) -> None:
    """Refuse what looks like a credential: a job's environment is shown on the dashboard and stands in its logs."""
    for name in variables:
        if any(word in name.upper() for word in SECRET):
            raise Refusal(
                f"--env {name} looks like a credential, and a job's environment is shown to all who see the cluster: "
                "give it to the nodes instead (a role, a Kubernetes secret), and leave it out here"
            )


def _is_clear(path: str, name: str) -> bool:
    return (
        path.startswith("/")
        or (name, path) == ("codec", UNTRAINED)
        or (name not in FOLDERS and (path.startswith("hf:") or "://" in path))
    )


def _wanted(name: str) -> str:
    shared = "an absolute path that every node sees"
    if name == "backbone":
        return f"a name, or {shared}"
    return (
        f"{shared}; object stores hold corpora, banks and their codecs only"
        if name in FOLDERS
        else f"s3://..., or {shared}"
    )


def _next_id(command: Command, server: JobServer) -> str:
    earlier = [job for job in server.jobs() if job.id.rpartition("-")[0] == command.stem]
    for job in earlier:
        if not job.is_over:
            raise Taken(_under_way(job))
    return f"{command.stem}-{1 + max((_number(job) for job in earlier), default=0)}"


def _number(job: SubmittedJob) -> int:
    last = job.id.rpartition("-")[2]
    return int(last) if last.isdigit() else 0


def _under_way(job: SubmittedJob) -> str:
    return (
        f"this command is {job.status.lower()} already as {job.id}: `nextmem logs {job.id} --follow` shows it, "
        f"`nextmem stop {job.id}` stops it"
    )


def _environment(staging: Path, variables: dict[str, str]) -> dict:
    """Our packages as working_dir, and what is passed on. The same for the command and for its workers."""
    ours = runtime_env(staging)
    return ours | {"env_vars": ours["env_vars"] | STOP | variables}


def passed_on() -> dict[str, str]:
    """The variables of this shell that the job gets."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}
