"""`nextmem train`: prepare the passages, then run the loop in this process or in Ray Train's workers."""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobs.settings import replaced
from jobs.train.run_folder import RunFolder, RunSettings
from model.baselines.settings import require_trainable, system_settings
from model.codec_folder import read_settings
from model.config import MEAN, CodecConfig
from model.embedded import EMBEDDED
from model.refusal import Refusal, Taken, Unavailable
from model.training.curriculum import Curriculum, TrainConfig
from model.training.passages import VERSION, data_version
from model.weights import find_weights
from pipeline.corpus.passages import prepare_passages

MAX_FAILURES = 5  # of workers; each goes on from the last checkpoint
MAY_DIFFER = (  # from the codec of --init: what its weights do not depend on, and what is measured anew at the end
    "chunk_tokens", "num_latents", "quantiser", "pooling", "latents_weight", "max_embedding_width", "load_in_4bit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What a person asks for, on the command line or from Python. None: what the run folder holds, else the default."""

    run: str
    data: tuple[str, ...] = ()
    backbone: str | None = None
    stages: str | None = None
    init: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)  # of TrainConfig and CodecConfig, by name
    workers: int = 1
    gpus: bool = False
    pool: str | None = None  # workers only on nodes with the label pool=...
    use_ray: bool = True
    minutes: float | None = None
    change: bool = False
    system: str | None = None  # what is trained: a codec, or a baseline of model/baselines/settings.py
    export: str | None = None  # a new folder for the codec of the latest checkpoint; the run stays as it is


def run_train(
    request: TrainRequest,
    *,
    on_progress: Callable[[dict], object] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Path | None:
    """Train from wherever the run stands. The codec's folder at its end; None where the minutes were over before.

    Prints nothing: `on_progress` gets each measured row, `say` what else a person would want to read.

    Raises ValueError, FileNotFoundError or OSError for what a person can mend.
    """
    for path in (request.run, *request.data, request.init or "", request.export or ""):
        if "://" in path:
            raise Refusal(f"{path}: training reads and writes folders; copy it to one, or mount the store")
    if request.use_ray and request.export is None:
        from jobs.cluster.session import require_reachable

        require_reachable()  # before there is a run: a cluster that is gone leaves none
    run = RunFolder(request.run)
    if request.export is not None:
        _export(request, run, say)
        return Path(request.export)
    settings = _asked(request, run.settings(), run.path)
    run.check(settings, change=request.change)
    if run.codec.exists():
        say(f"{run.path} is trained to its end; its codec is {run.codec}. Name a new folder to train another.")
        return run.codec
    with run.kept_if_begun():
        if _data_wanted(run, request.change):
            _prepare(run, settings, say)
        run.adopt(settings, change=request.change)
        return _trained(request, run, on_progress or (lambda row: None), say)


def _trained(
    request: TrainRequest, run: RunFolder, observe: Callable[[dict], object], say: Callable[[str], object]
) -> Path | None:
    deadline = None if request.minutes is None else time.time() + 60 * request.minutes
    run.error.unlink(missing_ok=True)
    if request.use_ray:
        done = _with_ray(request, run, deadline, observe)
    else:
        done = _alone(request, run, deadline, observe, say)
    return run.codec if done else None


def _export(request: TrainRequest, run: RunFolder, say: Callable[[str], object]) -> None:
    from jobs.train.loop import LoopOptions, run_loop

    if run.settings() is None or run.checkpoints(1).latest() is None:
        raise Refusal(f"{run.path} has no checkpoint to make a codec of; train there first")
    if Path(request.export).exists():
        raise Taken(f"{request.export} exists already; name a new folder for the codec")
    device = "cuda" if request.gpus else "auto"
    run_loop(LoopOptions(str(run.path), device, export=request.export), observe=lambda row: None, say=say)


def _asked(request: TrainRequest, held: RunSettings | None, path: Path) -> RunSettings:
    """What the run is to be: the folder's settings or the defaults, with the command line's on top."""
    if held is None and not request.data:
        raise Refusal(f"{path} is no run yet: name its passages with --data")
    init = _absolute(request.init) if request.init else held.init if held else None
    if held is None:
        start = read_settings(init) if init else None
        codec = CodecConfig.from_dict(start["config"]) if start else CodecConfig()
        codec = replace(codec, pooling=MEAN, latents_weight=None)  # no head yet
        backbone = request.backbone or (start["backbone"] if start else EMBEDDED)
        system = request.system or "nextmem"
        train, codec = replaced(system_settings(system), TrainConfig(), codec)
        held = RunSettings(backbone, (), init, train, codec, system)
    stages = {"stages": request.stages} if request.stages else {}
    train, codec = replaced({**request.settings, **stages}, held.train, held.codec)
    backbone = request.backbone or held.backbone
    backbone = _absolute(backbone) if Path(backbone).is_dir() else backbone
    data = tuple(_absolute(path) for path in request.data) or held.data
    asked = RunSettings(backbone, data, init, train, codec, request.system or held.system)
    _require_fit(asked)
    return asked


def _require_fit(asked: RunSettings) -> None:
    """Refuse a plan without an end, and a start codec of another shape or of another backbone."""
    Curriculum(asked.train, asked.codec.num_latents)
    require_trainable(asked.system, asked.train, asked.init)
    if asked.init is None:
        return
    start = read_settings(asked.init)
    if not find_weights(asked.backbone).is_named(start["backbone_fingerprint"]):
        raise Refusal(f"--init {asked.init} is of backbone {start['backbone']}, the run of {asked.backbone}")
    measured = () if asked.train.stages == "2" else ("latent_gain",)  # when stage 2 begins
    before = CodecConfig.from_dict(start["config"]).as_dict()
    for name, wanted in asked.codec.as_dict().items():
        found = before[name]
        if found != wanted and name not in (*MAY_DIFFER, *measured):
            raise Refusal(f"--init {asked.init} has {name} {found!r}, the run {wanted!r}: they must be the same")


def _data_wanted(run: RunFolder, change: bool) -> bool:
    """Whether the passages are to be read. ValueError for data that a run must not be mixed with."""
    version = data_version(run.data)
    if version is None and run.data.exists():
        raise Refusal(f"{run.data} exists and is no data of a run: name another folder for the run")
    if version is None or run.settings() is None:  # data alone are what a start left that was killed
        return True
    if version != VERSION and not change:
        raise Refusal(
            f"the chunks in {run.data} were cut otherwise than encoding cuts now (data of version {version}, not "
            f"{VERSION}). --change reads the passages again and goes on with those; or name a new folder, with --init"
        )
    return version != VERSION


def _prepare(run: RunFolder, settings: RunSettings, say: Callable[[str], object]) -> None:
    train = settings.train
    say(f"reading passages: {', '.join(settings.data)}")
    prepare_passages(
        settings.data,
        run.data,
        find_weights(settings.backbone).tokenizer(),
        text_column=train.text_column,
        chunk_tokens=settings.codec.chunk_tokens,
        min_tokens=train.min_tokens,
        held_out=train.held_out,
        seed=train.seed,
        say=say,
    )


def _alone(
    request: TrainRequest,
    run: RunFolder,
    deadline: float | None,
    observe: Callable[[dict], object],
    say: Callable[[str], object],
) -> bool:
    from jobs.train.loop import LoopOptions, run_loop

    device = "cuda" if request.gpus else "auto"
    return run_loop(LoopOptions(str(run.path), device, deadline), observe=observe, say=say)


def _with_ray(request: TrainRequest, run: RunFolder, deadline: float | None, observe: Callable[[dict], object]) -> bool:
    """Ray's own records go to a folder of this launch alone: a torn one of an earlier launch would stop this one."""
    from jobs.cluster.session import Session
    from jobs.train.ray_training import fit

    scratch = run.path / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    follower = _Follower(run, observe)
    with Session(request.pool) as session:
        cluster = session.start()
        follower.start()
        try:
            failure = fit(
                {"folder": str(run.path), "deadline": deadline, "threads": max(1, cluster.cores // request.workers)},
                workers=request.workers,
                gpus=request.gpus,
                pool=request.pool,
                name=uuid.uuid4().hex[:8],
                storage=str(scratch),
                max_failures=MAX_FAILURES,
            )
        finally:
            follower.stop()
    shutil.rmtree(scratch, ignore_errors=True)
    run.raise_error()
    if failure is not None:
        raise Unavailable(f"{failure} The same command goes on from the last checkpoint.")
    return run.codec.exists()


class _Follower(threading.Thread):
    """Shows what the workers append to metrics.jsonl."""

    def __init__(self, run: RunFolder, observe: Callable[[dict], object]):
        super().__init__(daemon=True)
        self.metrics, self.observe, self.over = run.metrics, observe, threading.Event()
        self.read = self.metrics.stat().st_size if self.metrics.exists() else 0

    def run(self) -> None:
        while not self.over.wait(1.0):
            self._show()
        self._show()

    def stop(self) -> None:
        self.over.set()
        self.join()

    def _show(self) -> None:
        size = self.metrics.stat().st_size if self.metrics.exists() else 0
        self.read = min(self.read, size)  # a resume cuts off what will be measured again, and writes on
        with self.metrics.open("rb") if size else nullcontext() as file:
            if file is None:
                return
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
        self.read += len(whole) + bool(whole)
        for line in whole.splitlines():
            with suppress(ValueError):  # the end of a line, where what was cut off has been written again already
                self.observe(json.loads(line))


def _absolute(path: str) -> str:
    return str(Path(path).absolute())
