"""Heartbeats: who is at work on a bank. A job replaces its file `_jobs/<id>.json` whole every few seconds.

A job killed with SIGKILL cannot say that it has gone. So a record counts as alive only while its process lives, where
that can be asked (same host, same boot, same process namespace), and elsewhere only while its last beat is younger than
GONE_SECONDS; the clocks of the hosts must agree to within that. The transaction log decides what is in a bank, never
these files: one that is lost costs what `nextmem status` could have said.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import psutil

from model.refusal import Refusal, Unavailable
from pipeline.storage.folder import Folder

JOBS = "_jobs"
SUFFIX = ".json"
BEAT_SECONDS = 5.0
GONE_SECONDS = 60.0  # twelve beats: a store that is slow for a while is not a job that has gone
ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What one job said of itself last. Times are seconds since the epoch; a tend has no units and chunks."""

    job: str
    kind: str  # encode, refine, tend, forget, remember, edit
    state: str  # planning, starting, encoding, tending, forgetting, committing; at the end one of ENDED
    host: str
    place: str  # host, boot and process namespace: where `pid` means something
    pid: int
    born: float  # when the process started: a process id is used again
    started: float
    beat: float
    workers: int = 0
    device: str = ""  # of the workers: cpu, gpu
    units: int = 0  # this job is to do
    chunks: int = 0  # this job is to make, estimated
    done_units: int = 0  # committed
    done_documents: int = 0
    done_chunks: int = 0
    done_tokens: int = 0
    encoded: int = 0  # chunks, committed or not
    rejected: int = 0
    failed_units: int = 0
    seconds: float = 0.0  # from the first unit's beginning to the last beat
    last_commit: float | None = None
    error: str | None = None  # in one line

    @property
    def chunks_per_second(self) -> float | None:
        """Of all workers together, since the first unit began."""
        return self.encoded / self.seconds if self.encoded and self.seconds else None

    @property
    def eta_seconds(self) -> float | None:
        rate = self.chunks_per_second
        return max(0, self.chunks - self.encoded) / rate if rate and self.state not in ENDED else None

    def is_alive(self, now: float | None = None) -> bool:
        if self.state in ENDED:
            return False
        if self.place == _place():
            return _lives(self.pid, self.born)
        return (time.time() if now is None else now) - self.beat < GONE_SECONDS


class BusyError(Unavailable):
    """Another job is at work on the bank, and both at once is not safe."""


class Presence:
    """This process's own record. Nothing is written before `begin`; leaving the block says how the job ended."""

    def __init__(
        self, folder: Folder, kind: str, *, on_beat: Callable[[], None] = lambda: None, remembered: bool = True
    ):
        """`on_beat` is called at each beat by a thread of its own, so also while a commit hangs.

        `remembered`: whether the record stays when the job has ended; of what takes a moment nobody asks later.
        """
        self._folder, self._on_beat, self._remembered = folder, on_beat, remembered
        now = time.time()
        job = f"{kind}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{uuid.uuid4().hex[:6]}"
        born = psutil.Process().create_time()
        self.record = JobRecord(job, kind, "starting", socket.gethostname(), _place(), os.getpid(), born, now, now)
        self._changing, self._writing = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, **changes) -> None:
        """Be seen from now on. Raises OSError where the folder cannot be written to."""
        self.update(**changes)
        self._write()
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def update(self, **changes) -> None:
        """What the next beat says."""
        with self._changing:
            self.record = replace(self.record, **changes)

    def __enter__(self) -> Presence:
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        self._ended.set()
        if self._thread is None:
            return
        self._thread.join()
        refused = isinstance(error, Refusal) and self.record.state == "planning"
        if isinstance(error, BusyError) or refused or not self._remembered:
            with suppress(OSError):
                forget(self._folder, self.record)  # what is refused before it begins leaves nothing
            return
        state = how_it_ended(error)
        self.update(state=state, error=" ".join(str(error).split())[:300] if state == "failed" else None)
        with suppress(OSError):  # the job's own error is what a person must read
            self._write()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(OSError):  # the next beat may be luckier; until then the record grows old
                self._write()
            self._on_beat()

    def _write(self) -> None:
        with self._writing:
            self.update(beat=time.time())
            self._folder.put(f"{JOBS}/{self.record.job}{SUFFIX}", json.dumps(asdict(self.record)).encode())


def how_it_ended(error: BaseException | None) -> str:
    """One of ENDED."""
    return "finished" if error is None else "stopped" if isinstance(error, KeyboardInterrupt) else "failed"


def job_records(folder: Folder) -> list[JobRecord]:
    """Of every job that the bank remembers, the newest first. Raises ValueError for a file that is no record."""
    found = [_read(folder, name) for name in folder.names(JOBS) if name.endswith(SUFFIX)]
    return sorted((record for record in found if record), key=lambda record: -record.started)


def active_jobs(folder: Folder, *kinds: str, but: str = "") -> list[JobRecord]:
    """The jobs of these kinds, or of any, that are alive, but for the one with the id `but`."""
    records = [job for job in job_records(folder) if (job.kind in kinds or not kinds) and job.job != but]
    return [record for record in records if record.is_alive()]


def refuse_beside(folder: Folder, *kinds: str, but: str = "") -> None:
    """Raises BusyError where a job of one of the kinds, or of any, is alive, other than the one with the id `but`."""
    for job in active_jobs(folder, *kinds, but=but):
        raise BusyError(
            f"`nextmem {job.kind}` is at work on {folder.uri} (process {job.pid} on {job.host}): run this command "
            "again when that has ended; `nextmem status` shows it"
        )


def forget(folder: Folder, record: JobRecord) -> None:
    folder.remove(f"{JOBS}/{record.job}{SUFFIX}")


def _read(folder: Folder, name: str) -> JobRecord | None:
    """None where the file has gone meanwhile. What a newer version says beyond our fields is passed over."""
    try:
        values = json.loads(folder.read(name))
        return JobRecord(**{field.name: values[field.name] for field in fields(JobRecord) if field.name in values})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Refusal(f"{folder.uri}/{name} is no record of a job ({error}): delete it") from None


def _place() -> str:
    """Two processes with the same answer see the same process ids."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.exists():  # not Linux
        return socket.gethostname()
    return f"{socket.gethostname()} {boot.read_text().strip()} {os.readlink(namespace)}"


def _lives(pid: int, born: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - born) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
