"""What is broken, one function a fault. Each leaves the job finished, and tells when it struck and what it saw."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chaos.job import PATIENCE, ROOT, UNIT_CHUNKS, Ended, HungError, wait_until
from benchmarks.chaos.phases import PHASES, wait_for
from benchmarks.chaos.scene import Scene, documents
from pipeline.bank.bank import Bank

KILLS = 3
COMMIT_KILLS = 6
FORGET_KILLS = 4
SLOW_SECONDS = 15
HEAD_PATIENCE = 180.0  # in which a driver whose head is gone must end by itself


@dataclass(slots=True)
class Told:
    """When the fault struck, how the last run ended, and what a reader of the table should know."""

    struck: list[float] = field(default_factory=list)
    ended: Ended | None = None
    note: str = ""
    without: frozenset[str] = frozenset()  # documents that must be missing


def driver(scene: Scene, phase: str) -> Told:
    """SIGKILL three times in one job; the same command again each time."""
    told = Told()
    for kill in range(KILLS):
        process = scene.job.start()
        wait_for("in a unit" if phase == "tail" and kill < KILLS - 1 else phase, scene.seen, process)
        process.kill()
        process.wait()
        told.struck.append(time.time())
    told.ended = scene.job.finish()
    return told


def encoder(scene: Scene, phase: str) -> Told:
    """SIGKILL an encoder's process."""
    process = scene.job.start()
    wait_for(phase, scene.seen, process)
    scene.machines.encoders()[0].kill()
    return _survived(scene, process)


def node_replaced(scene: Scene, phase: str) -> Told:
    """SIGKILL a node that encodes, with everything on it; another takes its place."""
    process = scene.job.start()
    wait_for(phase, scene.seen, process)
    scene.machines.kill_worker()
    told = Told([time.time()])
    scene.machines.add_worker()
    told.ended = scene.job.ended(process)
    return told


def node_lost(scene: Scene, phase: str) -> Told:
    """SIGKILL a node that encodes; nothing takes its place."""
    process = scene.job.start()
    wait_for(phase, scene.seen, process)
    scene.machines.kill_worker()
    return _survived(scene, process)


def head(scene: Scene, phase: str) -> Told:
    """SIGKILL the head node; then a new cluster, and the same command there."""
    process = scene.job.start()
    wait_for(phase, scene.seen, process)
    scene.machines.kill_head()
    told = Told([time.time()])
    try:
        ended = scene.job.ended(process, HEAD_PATIENCE)
        told.note = f"driver ended by itself after {time.time() - told.struck[0]:.0f} s, exit code {ended.code}"
    except HungError:
        told.note = f"driver did not end within {HEAD_PATIENCE:.0f} s and was killed"
    scene.machines.stop()
    scene.machines.start()
    scene.job.address = scene.machines.address
    told.ended = scene.job.finish()
    return told


def committing(scene: Scene, phase: str) -> Told:
    """SIGKILL the driver at different moments of committing, again and again."""
    scene.job.settings["commit_seconds"] = 0.0
    told = Told(note=f"{COMMIT_KILLS} kills, 0 to {30 * (COMMIT_KILLS - 1)} ms after a unit's file was whole")
    for kill in range(COMMIT_KILLS):
        process = scene.job.start()
        wait_for("written", scene.seen, process)
        time.sleep(0.03 * kill)
        process.kill()
        process.wait()
        told.struck.append(time.time())
    told.ended = scene.job.finish()
    return told


def lost_messages(scene: Scene, phase: str) -> Told:
    """Ray's own messages are lost: see LOST."""
    return Told(ended=scene.job.ended(scene.job.start()))


def slow_encoder(scene: Scene, phase: str) -> Told:
    """One encoder stands still for a while, as on a machine that swaps."""
    process = scene.job.start()
    wait_for("in a unit", scene.seen, process)
    stopped = scene.machines.encoders()[0]
    stopped.send_signal(signal.SIGSTOP)
    time.sleep(SLOW_SECONDS)
    stopped.send_signal(signal.SIGCONT)
    return _survived(scene, process)


def poison(scene: Scene, phase: str) -> Told:
    """A document that ends its worker each time it is encoded; it has neighbours, without which nothing is proven."""
    scene.job.settings["unit_chunks"] = 4 * UNIT_CHUNKS
    ended = scene.job.ended(scene.job.start())
    said = f"first run: exit code {ended.code}, {(ended.summary or {}).get('rejected')} rejected"
    return Told(ended=scene.job.finish(), note=said, without=frozenset({POISON}))


def torn_file(scene: Scene, phase: str) -> Told:
    """The driver dies before a commit, and half of each file that waited for it is gone."""
    process = scene.job.start()
    wait_for("written", scene.seen, process)
    process.kill()
    process.wait()
    told = Told([time.time()])
    torn = [scene.job.bank / name for name in scene.seen.uncommitted()]
    for path in torn:
        os.truncate(path, path.stat().st_size // 2)
    told.ended = scene.job.finish()
    told.note = f"{len(torn)} files torn"
    return told


def torn_later(scene: Scene, phase: str) -> Told:
    """Half of a committed file is gone once the job is done; `nextmem verify --repair`, and the same command again."""
    ended = scene.job.finish()
    torn = scene.job.bank / min(scene.seen.commits()[-1].files)
    os.truncate(torn, torn.stat().st_size // 2)
    told = Told([time.time()], ended)
    repair = [sys.executable, "-m", "nextmem.cli", "verify", str(scene.job.bank), "--repair", "--sample", "1"]
    found = subprocess.run(repair, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    told.note = f"verify --repair: exit code {found.returncode}, {found.stdout.count('cannot be read')} file named"
    told.ended = scene.job.finish()
    return told


def two_drivers(scene: Scene, phase: str) -> Told:
    """The same command twice at the same time."""
    scene.job.arguments = ["--actors", "2"]
    both = [scene.job.start(), scene.job.start()]
    ended = [scene.job.ended(process) for process in both]
    codes = " and ".join(str(each.code) for each in ended)
    return Told(ended=scene.job.finish(), note=f"exit codes {codes}; {_chunks(ended)} chunks committed by each")


def forgetting(scene: Scene, phase: str) -> Told:
    """A committed document is forgotten beside the job, by a command that is killed at different moments of it."""
    process = scene.job.start()
    wait_for(phase, scene.seen, process)
    gone = min(doc_id for doc_id, _ in Bank.open(str(scene.job.bank)).documents())
    command = [sys.executable, "-m", "nextmem.cli", "forget", str(scene.job.bank), "--doc", gone]
    lists, told = scene.job.bank / "_forgotten", Told(without=frozenset({gone}))
    for kill in range(FORGET_KILLS):
        before = _files(lists)
        forget = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: _files(lists) > before or forget.poll() is not None, what="a list of tombstones")  # noqa: B023
        time.sleep(0.02 * kill)
        forget.kill()
        told.struck.append(time.time())
        told.note += f"{'killed' if forget.wait() < 0 else 'ended'}, "
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    told.note += f"then exit code {ended.returncode}, the job {'at work' if process.poll() is None else 'done'} by then"
    first = scene.job.ended(process)
    told.ended = scene.job.finish() if first.code == 0 else first
    return told


def full_store(scene: Scene, phase: str) -> Told:
    """Units that take a quarter of the object store each."""
    scene.job.corpus = _fat(scene)
    scene.job.arguments = ["--columns", "attachment"]
    scene.job.settings["unit_chunks"] = 40
    return Told(ended=scene.job.ended(scene.job.start()))


def full_disk(scene: Scene, phase: str) -> Told:
    """The bank's disk is full when a unit is written, or when a commit is; then there is room again."""
    process = scene.job.start()
    wait_for("committed", scene.seen, process)
    if phase == "in a commit":
        process.send_signal(signal.SIGSTOP)  # encoders go on: the disk is full when the driver next commits
        wait_until(lambda: scene.seen.uncommitted(), what="a file that waits for its commit")
    scene.disk.fill()
    process.send_signal(signal.SIGCONT)
    told = Told([time.time()])
    ended = scene.job.ended(process)
    told.note = f"exit code {ended.code}: {ended.last_words}"
    scene.disk.empty()
    told.ended = scene.job.finish()
    return told


def _files(folder: Path) -> int:
    return len(list(folder.glob("*.json")))


def _survived(scene: Scene, process) -> Told:
    """The running command must finish by itself."""
    struck = [time.time()]
    return Told(struck, scene.job.ended(process))


def _fat(scene: Scene) -> Path:
    """The sample articles, each with an attachment that every one of its chunks carries."""
    noise = random.Random(0)
    path = scene.folder / "fat.jsonl"
    with path.open("w") as file:
        for doc_id, text in documents().items():
            attachment = noise.randbytes(ATTACHMENT_BYTES // 2).hex()
            file.write(json.dumps({"id": doc_id, "text": text, "attachment": attachment}) + "\n")
    return path


def _chunks(ended: list[Ended]) -> str:
    return " and ".join(str((each.summary or {}).get("chunks")) for each in ended)


ATTACHMENT_BYTES = 200_000
POISON = "surtsey"
LOST = {
    "RAY_testing_rpc_failure": (
        '{"CoreWorkerService.grpc_client.PushTask":{"num_failures":50,"req_failure_prob":10,"resp_failure_prob":10,'
        '"in_flight_failure_prob":0},"NodeManagerService.grpc_client.RequestWorkerLease":{"num_failures":20,'
        '"req_failure_prob":10,"resp_failure_prob":10,"in_flight_failure_prob":0}}'
    )
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break a job, and when. `environment` and `machines` are what its scene needs."""

    name: str
    strike: Callable[[Scene, str], Told]
    phases: tuple[str, ...] = ("",)
    environment: dict[str, str] = field(default_factory=dict)
    machines: dict[str, int] = field(default_factory=dict)
    disk: bool = False  # the bank lies on a small disk of its own


FAULTS = (
    Fault("driver killed, three times", driver, PHASES),
    Fault("encoder killed", encoder, PHASES),
    Fault("node killed, replaced", node_replaced, PHASES),
    Fault("node killed, not replaced", node_lost, PHASES),
    Fault("head killed, new cluster", head, PHASES),
    Fault("driver killed while committing", committing),
    Fault("messages lost", lost_messages, environment=LOST),
    Fault("encoder stands still", slow_encoder),
    Fault("document that crashes its encoder", poison, environment={"NEXTMEM_CHAOS_POISON": POISON}),
    Fault("file torn before its commit", torn_file),
    Fault("file torn after its commit", torn_later),
    Fault("disk full", full_disk, ("in a unit", "in a commit"), disk=True),
    Fault("two drivers on one bank", two_drivers, machines={"workers": 4}),
    Fault("forget killed, four times, beside the job", forgetting, ("committed", "tail")),
    Fault("object store too small", full_store, machines={"object_store_bytes": 80_000_000}),
)
