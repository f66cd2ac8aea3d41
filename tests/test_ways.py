"""The drawing of the two ways is what its code draws, and its code names what there is."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("ways", ROOT / "docs" / "ways.py")
ways = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ways)


def test_the_picture_in_docs_is_the_one_that_is_drawn_today():
    assert ways.OUT.read_text() == ways.draw(), "run `python docs/ways.py`"


@pytest.mark.parametrize(("file", "name"), sorted(set(ways.steps())))
def test_each_box_names_a_function_or_class_of_its_file(file, name):
    defined = {getattr(node, "name", None) for node in ast.parse((ROOT / file).read_text()).body}
    assert name in defined
