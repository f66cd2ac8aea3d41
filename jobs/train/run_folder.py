"""The folder of a training run: what was asked for, what was measured, checkpoints, and at the end the codec.

config.json  metrics.jsonl  samples.jsonl  data/  checkpoints/  plots/  tensorboard/  codec/
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from model.config import CodecConfig
from model.refusal import Refusal
from model.training.checkpoints import Checkpoints
from model.training.curriculum import TrainConfig

LOCK_SECONDS = 60  # workers of a killed driver take some seconds to notice
FIXED = ("min_tokens", "held_out", "seed", "text_column", "stages", "first_substage", "curriculum", "trains")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What decides a run. `init`: codec folder whose adapters it starts from."""

    backbone: str
    data: tuple[str, ...]
    init: str | None
    train: TrainConfig
    codec: CodecConfig
    system: str = "nextmem"  # a name of model/baselines/settings.py

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, object]:
        return (
            {"system": self.system, "backbone": self.backbone, "data": self.data, "init": self.init}
            | self.train.as_dict()
            | (self.codec.as_dict())
        )


class RunFolder:
    """A run folder by its path; it need not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        self.config = self.path / "config.json"
        self.metrics, self.samples = self.path / "metrics.jsonl", self.path / "samples.jsonl"
        self.data, self.plots, self.codec = self.path / "data", self.path / "plots", self.path / "codec"
        self.error = self.path / "error.json"

    def settings(self) -> RunSettings | None:
        """None where the folder is no run yet. ValueError for a damaged config.json."""
        if not self.config.exists():
            return None
        try:
            saved = json.loads(self.config.read_text())
            train, codec = TrainConfig(**saved["train"]), CodecConfig.from_dict(saved["codec"])
            system = saved.get("system", "nextmem")
            return RunSettings(saved["backbone"], tuple(saved["data"]), saved["init"], train, codec, system)
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{self.config} is damaged or of another version: {error!r}. Name a new folder.") from None

    def has_begun(self) -> bool:
        """Whether anything was measured. From then on it is a run, whatever ends it."""
        return self.metrics.exists() and self.metrics.stat().st_size > 0

    def check(self, asked: RunSettings, *, change: bool) -> None:
        """Whether what is asked for is what the folder holds; with `change` some of it may differ.

        Raises ValueError naming every setting that differs.
        """
        held = self.settings()
        if held is not None and held != asked:
            before, after = held.flat(), asked.flat()
            odd = [name for name in after if after[name] != before[name]]
            fixed = [n for n in odd if n in FIXED or not hasattr(asked.train, n)]
            said = "; ".join(f"{name} is {before[name]!r}, asked for {after[name]!r}" for name in odd)
            if fixed:
                raise Refusal(f"{self.path} is a run of other settings, which cannot change: {said}. New folder?")
            if not change:
                raise Refusal(f"{self.path} is a run of other settings: {said}. --change goes on with the new ones.")

    def adopt(self, asked: RunSettings, *, change: bool) -> None:
        """Make the folder, or take over what may change. Raises what `check` does."""
        self.check(asked, change=change)
        if self.settings() != asked:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(self.config, json.dumps(asked.as_dict(), indent=2) + "\n")

    @contextmanager
    def kept_if_begun(self) -> Iterator[None]:
        """Around a start: one that ends before anything is measured leaves the place as it was, and so the next start
        free. A run that was there before stays, and so does one that another process holds."""
        existed, was_run = self.path.exists(), self.config.exists()
        found = [path for path in self._may_leave() if path.exists()]
        try:
            yield
        finally:
            if not was_run and not self.has_begun() and self._is_free():
                for path in self._may_leave():
                    if path not in found:
                        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                if not existed and self.path.exists() and not any(self.path.iterdir()):
                    self.path.rmdir()

    def _may_leave(self) -> list[Path]:
        names = ("checkpoints", "tensorboard", "ray", ".lock")
        return [self.config, self.metrics, self.error, self.data, *(self.path / name for name in names)]

    def _is_free(self) -> bool:
        """Whether no process trains here."""
        if not self.path.exists():
            return True
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def checkpoints(self, keep: int) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints", keep=keep)

    def lock(self) -> FileLock:
        """Held by the one process that writes here; the kernel frees it when that process dies."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise Refusal(f"another process trains in {self.path}: wait for it, or stop it") from None
        return lock

    def rows(self) -> list[dict]:
        """All whole rows of metrics.jsonl."""
        return read_rows(self.metrics)

    def forget_after(self, step: int) -> None:
        """Drop what was measured past the checkpoint that the run goes on from; it will be measured again."""
        for path in (self.metrics, self.samples):
            if path.exists():
                kept = [row for row in read_rows(path) if row["step"] < step or row.get("at_end") == step]
                replace_file(path, "".join(json.dumps(row) + "\n" for row in kept))

    def raise_error(self) -> None:
        """Raise what a worker wrote down as the reason why it stopped."""
        if self.error.exists():
            message = json.loads(self.error.read_text())["message"]
            self.error.unlink()
            raise Refusal(message)


def system_of(run: str | Path) -> str | None:
    """What a run trains, as its config.json says; None where there is none that can be read."""
    try:
        return json.loads((Path(run) / "config.json").read_text()).get("system")
    except (OSError, ValueError, AttributeError):
        return None


def read_rows(path: Path) -> list[dict]:
    """JSON lines; a torn last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class Metrics:
    """Appends rows to metrics.jsonl, and hands them on."""

    def __init__(self, path: Path, observe: Callable[[dict], None]):
        self._file, self._observe = path.open("a", buffering=1), observe

    def write(self, row: dict) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._observe(row)

    def close(self) -> None:
        self._file.close()


def replace_file(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
