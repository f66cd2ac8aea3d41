"""`python -m benchmarks.rate_distortion` on the tiny backbone: points that are there are not measured again."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import rate_distortion


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """run(*arguments): the figures that it prints as JSON."""

    def ran(*arguments):
        common = ["--backbone", "tiny-llama", "--passages", "6", "--json", "--out", str(tmp_path / "points.jsonl")]
        monkeypatch.setattr(sys, "argv", ["rate_distortion", *common, *arguments])
        rate_distortion.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]

    return ran


def test_points_are_exact_resumed_and_drawn(run, tmp_path, monkeypatch):
    figures = run("--latents", "2", "--bits", "4", "2", "--steps", "0")
    assert figures["2 latents, 4 bits, 0 steps: exact of 6"] == figures["2 latents, 2 bits, 0 steps: exact of 6"] == 6
    assert (figures["2 latents, 4 bits, 0 steps: latents"], figures["2 latents, 2 bits, 0 steps: latents"]) == (68, 36)
    points = tmp_path / "points.jsonl"
    points.write_text(points.read_text()[:-9])  # a kill tore the last line
    measured, measure = [], rate_distortion.measure
    monkeypatch.setattr(rate_distortion, "measure", lambda *given: measured.append(given[0]) or measure(*given))
    again = run("--latents", "2", "3", "--bits", "4", "2", "--steps", "0", "--plot", str(tmp_path / "rate.png"))
    rates = [codec.quantiser.rate for codec in measured]
    assert [(rate.latents, rate.bits) for rate in rates] == [(3, 4), (3, 2), (2, 2)]
    ranked = run("--latents", "2", "--bits", "4", "--steps", "2", "--ranks", "64")
    assert ranked["2 latents, 4 bits, rank 64, 2 steps: exact of 6"] == 6
    assert len(rate_distortion.read_points(points)) == 5
    assert again["2 latents, 4 bits, 0 steps: patch"] == figures["2 latents, 4 bits, 0 steps: patch"]
    picture = (tmp_path / "rate.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000
