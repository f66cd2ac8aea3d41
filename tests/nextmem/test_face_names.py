"""The public names: each says what it is, stands in docs/python.md, and costs nothing until it is used."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nextmem

ROOT = Path(__file__).parents[2]
CLASSES = ("Bank", "Codec", "Hit", "Latents", "Memorised", "Memory", "Verdict")
MEASURE = """
import sys, time
before = time.process_time()
import nextmem
print(time.process_time() - before)
print(*{name.partition(".")[0] for name in sys.modules})
"""


def members():
    """(class, name, what it is) of every public method and property."""
    return [
        (name, member, vars(getattr(nextmem, name))[member])
        for name in CLASSES
        for member in vars(getattr(nextmem, name))
        if not member.startswith("_") and member not in getattr(getattr(nextmem, name), "__dataclass_fields__", {})
    ]


def lines(code, **more):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **more)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("name", nextmem.__all__)
def test_every_public_name_says_what_it_is_and_is_shown(name):
    assert inspect.getdoc(getattr(nextmem, name))
    shown = (ROOT / "docs" / "python.md").read_text()
    assert re.search(rf"\b{name}\b", shown), f"docs/python.md does not show {name}"


@pytest.mark.parametrize("owner, name, member", members(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_public_method_says_what_it_does_and_is_shown(owner, name, member):
    found = member.__func__ if isinstance(member, classmethod) else member
    assert found.__doc__, f"{owner}.{name}"
    written = [path.read_text() for path in (ROOT / "docs" / "python.md", *(ROOT / "examples").glob("*.py"))]
    assert any(re.search(rf"\.{name}\b|\b{name}\(", text) for text in written), f"no example of {owner}.{name}"


def test_importing_takes_less_than_a_tenth_of_a_second_and_loads_nothing_heavy():
    runs = [lines(MEASURE)[0] for _ in range(5)]
    assert min(float(seconds) for seconds, _ in runs) < 0.1
    assert not {"torch", "transformers", "ray", "pyarrow", "deltalake", "numpy"} & set(runs[0][1].split())


def test_names_are_found_by_completion_and_a_wrong_one_is_told():
    assert set(nextmem.__all__) <= set(dir(nextmem))
    with pytest.raises(AttributeError, match="has no attribute 'serach'; it has Bank, Codec"):
        _ = nextmem.serach


@pytest.mark.parametrize("name", ["model", "pipeline", "jobs"])
def test_a_module_of_the_users_own_that_is_loaded_before_is_refused(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("mine = True\n")
    said, trouble = lines(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {name}, nextmem")
    assert said == [] and trouble.splitlines()[-1].startswith(f"ImportError: a module named '{name}' is loaded already")
    assert str(tmp_path) in trouble and "import nextmem before it, or rename it" in trouble


def test_a_stray_module_that_comes_first_on_the_path_is_not_taken_for_ours(tmp_path):
    for name in ("model", "pipeline", "jobs"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the stray one')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import nextmem; print(nextmem.Refusal.__module__)"
    assert lines(code)[0] == ["model.refusal"]


def test_python_m_nextmem_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "nextmem", "info", "no-bank"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("nextmem: ") and "is not a memory bank" in done.stderr
