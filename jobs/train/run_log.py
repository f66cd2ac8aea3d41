"""What a run writes down as it goes: metrics, samples, pictures, TensorBoard events."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence

import torch

from jobs.train.pictures import draw
from jobs.train.run_folder import Metrics, RunFolder
from model.training.curriculum import Place
from model.training.sampling import Sample
from model.training.trainer import Measured


class RunLog:
    """Of the first worker. A row has `step`, the step it was measured at, counted from 0 over the whole run."""

    def __init__(self, run: RunFolder, metrics: Metrics, place: Place):
        self.run, self.metrics = run, metrics
        self.events = _events(run, place.step)
        self.tokens_per_second = None

    def step(
        self, place: Place, measured: Measured, *, learning_rate, tokens, seconds, flop, share, steps_left
    ) -> None:
        row = _row("step", place, measured) | {
            "gradient_norm": measured.gradient_norm,
            "learning_rate": learning_rate,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "flop": flop,
            "share_of_limit": share,
            "memory_mb": memory_mb(),
            "steps_left": steps_left,
        }
        self._write(row, ("loss", "accuracy", "learning_rate", "tokens_per_second", "share_of_limit"))

    def look(self, place: Place, measured: Measured) -> None:
        row = _row("held_out", place, measured) | {"step": place.step - 1, "at_end": place.step}
        self._write(row, ("loss", "accuracy"))

    def plain(self, measured: Measured) -> None:
        """The backbone alone, before step 0."""
        self.metrics.write({"event": "plain", "step": -1, "loss": measured.loss, "accuracy": measured.accuracy})

    def end_of_substage(self, place: Place, samples: Sequence[Sample], *, by: str) -> None:
        """`by`: what ended it, the plateau rule or the cap."""
        where = {"step": place.step - 1, "at_end": place.step, "stage": place.stage, "substage": place.substage}
        whole = sum(sample.whole for sample in samples)
        self.metrics.write(
            {"event": "end", **where, "steps": place.substage_step, "by": by, "held_out_loss": place.best,
             "samples_whole": whole, "samples": len(samples)}
        )  # fmt: skip
        with self.run.samples.open("a") as file:
            for sample in samples:
                row = where | {"whole": sample.whole, "source": sample.source, "written": sample.written}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        draw(self.run)

    def close(self) -> None:
        draw(self.run)
        self.metrics.close()
        if self.events is not None:
            self.events.close()

    def _write(self, row: dict, shown: Sequence[str]) -> None:
        self.metrics.write(row)
        if self.events is not None:
            stage = f"stage{row['stage']}/{row['event']}"
            for name in shown:
                self.events.add_scalar(f"{stage}/{name}", row[name], row["step"])


def memory_mb() -> float:
    """Most memory held so far: the GPU's where there is one, else the process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _row(event: str, place: Place, measured: Measured) -> dict:
    return {
        "event": event,
        "step": place.step,
        "stage": place.stage,
        "substage": place.substage,
        "loss": measured.loss,
        "accuracy": measured.accuracy,
    }


def _events(run: RunFolder, step: int):
    """A TensorBoard writer; None where tensorboardX is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        return None
    return SummaryWriter(str(run.path / "tensorboard"), purge_step=step)
