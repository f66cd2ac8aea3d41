"""Two results.json compared: pairs by name and by item, and what cannot be paired is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.evaluate.compare import compared
from jobs.evaluate.results import Figure, Results, write_results
from model.refusal import Missing, Refusal


def results(system: str, values: list[float | None], *, items: list[str], of: str = "geese", **at) -> Results:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known)
    figure = Figure("reconstruct", system, of, "f1", mean, mean, mean, len(known), at, values)
    return Results({}, {system: {}}, {of: {}}, {f"reconstruct/{of}": items}, [figure])


def written(folder, name: str, made: Results):
    write_results(made, folder / name)
    return folder / name


def test_items_are_paired_by_their_ids_whatever_their_order(tmp_path):
    a = written(tmp_path, "a.json", results("default", [0.5, 0.9, 0.1], items=["x", "y", "only a"]))
    b = written(tmp_path, "b.json", results("default", [0.7, 0.4, None], items=["y", "x", "only a"]))
    (found,) = compared(a, b)
    assert (found.system, found.other, found.n) == ("default", "default", 2)
    assert found.value == pytest.approx(((0.5 - 0.4) + (0.9 - 0.7)) / 2)
    assert found.low == pytest.approx(0.1) and found.high == pytest.approx(0.2)  # both gaps, drawn twice each


def test_the_only_systems_of_two_files_are_compared_under_other_names(tmp_path):
    a = written(tmp_path, "a.json", results("run/codec", [0.5, 0.5], items=["x", "y"]))
    b = written(tmp_path, "b.json", results("default", [0.2, 0.4], items=["x", "y"]))
    (found,) = compared(a, b)
    assert (found.system, found.other) == ("run/codec", "default") and found.value == pytest.approx(0.2)


def test_figures_under_other_conditions_are_never_compared(tmp_path):
    a = written(tmp_path, "a.json", results("default", [0.5], items=["x"], sigma=0.1))
    b = written(tmp_path, "b.json", results("default", [0.5], items=["x"], sigma=0.2))
    with pytest.raises(Refusal, match="share nothing to compare"):
        compared(a, b)


def test_files_that_are_torn_or_missing_are_named(tmp_path):
    good = written(tmp_path, "a.json", results("default", [0.5], items=["x"]))
    with pytest.raises(Missing, match=r"b.json is not there"):
        compared(good, tmp_path / "b.json")
    (tmp_path / "b.json").write_text(good.read_text()[:50])
    with pytest.raises(Refusal, match=r"b.json is torn"):
        compared(good, tmp_path / "b.json")


def test_the_command_prints_a_line_a_difference_and_stars_what_is_sure(nextmem, tmp_path):
    ours = results("default", [0.5, 0.6, 0.7], items=["x", "y", "z"])
    a = written(tmp_path, "a.json", ours)
    b = written(tmp_path, "b.json", results("default", [0.4, 0.5, 0.6], items=["x", "y", "z"]))
    ran = nextmem("evaluate", "--compare", a, b)
    assert ran.code == 0 and ran.out.startswith("reconstruct, geese: default  f1  +0.1000 * (+0.1000 to +0.1000")
    (record,) = nextmem("evaluate", "--compare", b, a, "--json").records
    assert record["value"] == pytest.approx(-0.1) and record["event"] == "difference"
    same = written(tmp_path, "c.json", replace(ours, made={"command": "again"}))
    assert "+0.0000   (" in nextmem("evaluate", "--compare", a, same).out


def test_comparing_measures_nothing(nextmem, tmp_path):
    ran = nextmem("evaluate", "default", "--compare", "a.json", "b.json")
    assert ran.code == 2 and "leave out SYSTEM" in ran.err
    ran = nextmem("evaluate", "default")
    assert ran.code == 2 and "--data" in ran.err
