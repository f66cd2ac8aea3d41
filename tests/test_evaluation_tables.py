"""The tables of the README and of docs/evaluation.md are made from an evaluation, and only they change."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import evaluation
from jobs.evaluate.report.charts import Dot, dots
from jobs.evaluate.report.picture import standalone
from jobs.evaluate.report.tables import Cell, Row, Table

TABLE = Table(
    ["F1", "whole"],
    [
        Row("default", [Cell("0.500", "0.400 to 0.600", best=True), Cell()]),
        Row("minilm", [Cell(), Cell()]),
        Row("ICAE", [Cell("0.700"), Cell()], paper=True),
    ],
)


def test_a_row_without_a_figure_is_left_out_and_the_paper_s_are_named_so():
    assert evaluation.markdown(TABLE, ("F1", "gone"), intervals=True).splitlines() == [
        "| system | F1 |", "|---|---|", "| default | **0.500** (0.400 to 0.600) |", "| *paper: ICAE* | 0.700 |",
    ]  # fmt: skip


def test_only_what_stands_between_the_marks_changes():
    text = f"Before.\n{evaluation.BEGIN}\nold\n{evaluation.END}\nAfter."
    made = evaluation.between(text, "new \\1")
    assert made == f"Before.\n{evaluation.BEGIN}\nnew \\1\n{evaluation.END}\nAfter."
    with pytest.raises(ValueError, match="put the two marks"):
        evaluation.between("no marks", "new")


@pytest.mark.parametrize("file", [evaluation.README, evaluation.DOCS])
def test_both_texts_have_the_marks_and_a_table_of_the_codec_that_ships(file):
    marked = file.read_text(encoding="utf-8").partition(evaluation.BEGIN)[2].partition(evaluation.END)[0]
    assert "| system | F1 |" in marked and "\n| default | " in marked and "\n| text | 1.000" in marked


def test_a_plot_by_itself_has_every_colour_that_it_names():
    svg = standalone(dots([Dot("a", 0.5, 0.4, 0.6, paper=0.7)], label="F1"))
    ElementTree.fromstring(svg)
    named = {part.partition(")")[0] for part in svg.split("var(")[1:]}
    assert named >= {"--ink", "--paper", "--s0"}
    assert all(svg.count(f"{name}:") >= 2 for name in named)  # light and dark
