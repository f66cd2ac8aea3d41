"""What training took, for a table that compares: read from the run that a codec or a baseline still lies in."""

from __future__ import annotations

from pathlib import Path

from jobs.train.run_folder import RunFolder


def budget(folder: Path | None) -> dict[str, object]:
    """Steps, tokens and FLOP of the run RUN whose RUN/codec this is; empty for a folder that lies in no run."""
    run = RunFolder(folder.parent) if folder is not None else None
    if run is None or not run.config.is_file() or run.codec != folder.absolute():
        return {}
    steps = [row for row in run.rows() if row["event"] == "step"]
    looks = [row["loss"] for row in run.rows() if row["event"] == "held_out"]
    found: dict[str, object] = {"trained_steps": len(steps), "trained_tokens": sum(row["tokens"] for row in steps)}
    if steps and all("flop" in row for row in steps):
        found["trained_flop"] = float(f"{sum(row['flop'] for row in steps):.4g}")
    if looks:
        found["held_out_loss"] = round(looks[-1], 4)
    return found
