"""What every fault needs: a cluster, a job on it, and eyes on both. One scene is one broken run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.disk import SmallDisk
from benchmarks.chaos.job import SAMPLES, Job
from benchmarks.chaos.judge import contents
from benchmarks.chaos.machines import Machines
from benchmarks.chaos.phases import Seen

INJECT = Path(__file__).parent / "inject"
CHUNK_SECONDS = 0.02  # that a chunk takes longer than the two-layer backbone needs, so that phases can be hit


@dataclass(frozen=True, slots=True)
class Stage:
    """What all scenes share: the codec, and the rows of a run that nothing broke."""

    folder: Path
    codec: Path
    whole: Counter
    seconds: float  # from the first unit's begin to the last commit of the unbroken run


@dataclass(slots=True)
class Scene:
    folder: Path
    machines: Machines
    job: Job
    seen: Seen
    disk: SmallDisk | None = None  # the bank's own, where the fault wants one


@contextmanager
def scene(
    folder: Path,
    codec: Path,
    chunks: int,
    *,
    environment: dict[str, str] | None = None,
    machines: dict[str, int] | None = None,
    disk: bool = False,
) -> Iterator[Scene]:
    """A fresh cluster and bank, with a record of the work that is done on them."""
    folder.mkdir(parents=True)
    work = folder / "work.jsonl"
    extra = {
        "NEXTMEM_CHAOS_WORK": str(work),
        "NEXTMEM_CHAOS_SECONDS": str(CHUNK_SECONDS),
        "NEXTMEM_CACHE": str(codec.parent / "cache"),
        "PYTHONPATH": f"{INJECT}",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }
    with ExitStack() as stack:
        small = stack.enter_context(SmallDisk(folder / "disk")) if disk else None
        cluster = stack.enter_context(Machines(extra | (environment or {}), **(machines or {})))
        job = Job((folder / "disk" if disk else folder) / "bank", cluster.address, codec, logs=folder)
        stack.callback(job.stop)
        yield Scene(folder, cluster, job, Seen(job, cluster, work, chunks), small)


def stage(folder: Path) -> Stage:
    """Make the codec, and run the job once with nothing broken."""
    from model.backbone import load_backbone
    from model.codec_io import save_codec
    from model.config import CodecConfig
    from model.untrained import untrained_codec

    codec = untrained_codec(load_backbone("tiny-llama", precision="fp32", device="cpu"), CodecConfig())
    saved = Path(save_codec(codec, folder / "codec"))
    with scene(folder / "unbroken", saved, 0) as quiet:
        ended = quiet.job.ended(quiet.job.start())
        if ended.code:
            raise SystemExit(f"the unbroken run failed: {ended.err[-2000:]}")
        commits = quiet.seen.commits()
        began = min(call["began"] for call in quiet.seen.attempts())
        return Stage(folder, saved, contents(quiet.job), commits[-1].time - began)


def documents() -> dict[str, str]:
    """The sample articles' texts by id."""
    rows = map(json.loads, SAMPLES.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["text"] for row in rows}
