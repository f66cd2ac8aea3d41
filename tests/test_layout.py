"""The folders' arrows: jobs -> pipeline -> model, and what each may know."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("model", "pipeline", "jobs", "nextmem")
NOT_FOR = {
    "model": {"pipeline", "jobs", "nextmem", "ray", "pyarrow", "deltalake", "click"},
    "pipeline": {"jobs", "nextmem", "click"},
    "jobs": {"nextmem"},
    "nextmem": set(),
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    named = {name.partition(".")[0] for name in imports(path)}
    assert not named & NOT_FOR[package]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_are_never_imported_by_bare_name(path):
    """`import model` takes a stray model.py from the user's folder where it is first on the path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & set(PACKAGES)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh Python holds after running `code`."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module", ["model.tokens", "model.weights", "model.codec_folder", "model.config", "model.precision", "model.patch"]
)
def test_what_a_driver_asks_needs_no_torch(module):
    assert not loaded_after(f"import {module}") & {"torch", "transformers", "peft", "bitsandbytes"}
