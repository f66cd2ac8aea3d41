"""Loss and held-out accuracy as PNG, one picture a stage, sub-stages marked."""

from __future__ import annotations

import os

from jobs.train.run_folder import RunFolder


def draw(run: RunFolder) -> None:
    """plots/stage1.png and plots/stage2.png from metrics.jsonl; nothing where matplotlib is not installed."""
    if cache := os.environ.get("NEXTMEM_CACHE"):
        os.environ.setdefault("MPLCONFIGDIR", os.path.join(os.path.abspath(cache), "matplotlib"))
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return
    rows = run.rows()
    plain = next((row["loss"] for row in rows if row["event"] == "plain"), None)
    run.plots.mkdir(exist_ok=True)
    for stage in (1, 2):
        own = [row for row in rows if row.get("stage") == stage]
        if any(row["event"] == "step" for row in own):
            figure = Figure(figsize=(9, 6), layout="constrained")
            _stage(figure, own, stage, plain)
            figure.savefig(run.plots / f"stage{stage}.png", dpi=110)


def _stage(figure, rows: list[dict], stage: int, plain: float | None) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [row for row in rows if row["event"] == "step"]
    looks = [row for row in rows if row["event"] == "held_out"]
    above.plot([r["step"] for r in steps], [r["loss"] for r in steps], linewidth=0.7, alpha=0.6, label="training")
    above.plot([r["step"] for r in looks], [r["loss"] for r in looks], marker=".", label="held out")
    if plain is not None:
        above.axhline(plain, color="grey", linestyle="--", linewidth=0.8, label="backbone alone, held out")
    above.set_ylabel("loss (nats a label)")
    above.set_ylim(bottom=0)
    above.legend()
    below.plot([r["step"] for r in looks], [r["accuracy"] for r in looks], marker=".", color="tab:green")
    below.set_ylabel("held-out token accuracy")
    below.set_xlabel("step")
    below.set_ylim(0, 1.02)
    for end in (row for row in rows if row["event"] == "end"):
        for axes in (above, below):
            axes.axvline(end["step"], color="lightgrey", linewidth=0.7, zorder=0)
        if end["substage"]:
            below.annotate(str(end["substage"]), (end["step"], 0.02), fontsize=7, ha="right")
    above.set_title("stage 1: reconstruction" if stage == 1 else "stage 2: substitution, by sub-stage")
