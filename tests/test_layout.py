"""The rooms and their arrows: nextmem -> jobs -> pipeline -> model, and which room may read which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import defaultdict
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
MAY_READ = {  # rooms of one package; what is not named here reads no other room of its package
    "model.training": {"model"},
    "model.baselines": {"model", "model.training"},
    "pipeline.storage": {"pipeline"},
    "pipeline.corpus": {"pipeline", "pipeline.storage"},
    "pipeline.plan": {"pipeline", "pipeline.storage", "pipeline.corpus"},
    "pipeline.bank": {"pipeline", "pipeline.storage", "pipeline.corpus"},
    "pipeline.export": {"pipeline", "pipeline.storage", "pipeline.bank"},
    "pipeline.encode": {"pipeline", "pipeline.storage", "pipeline.corpus", "pipeline.plan", "pipeline.bank"},
    "pipeline.change": {"pipeline", "pipeline.storage", "pipeline.corpus", "pipeline.bank", "pipeline.encode"},
    "jobs.cluster": {"jobs"},
    "jobs.encode": {"jobs", "jobs.cluster"},
    "jobs.train": {"jobs", "jobs.cluster"},
    "jobs.evaluate": {"jobs", "jobs.cluster", "jobs.encode", "jobs.train"},
    "nextmem": {"nextmem.commands"},  # the command line hangs its commands up
    "nextmem.commands": {"nextmem", "nextmem.bridges", "nextmem.serving"},
    "nextmem.bridges": {"nextmem"},
    "nextmem.serving": {"nextmem"},
}
LONGEST_FILE, LONGEST_FUNCTION = 300, 50  # lines
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it; of `from a import b` the module a.b where there is one."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if (ROOT / name.replace(".", "/")).with_suffix(".py").exists()}
            found |= modules or {node.module}
    return found


def room(module: str) -> str:
    """`pipeline.bank.commit` and `pipeline.bank` lie in pipeline.bank, `pipeline.schema` in pipeline."""
    parts = module.split(".")
    is_room = len(parts) > 1 and ROOT.joinpath(*parts[:2]).is_dir()
    return ".".join(parts[: 2 if is_room else 1])


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    named = {name.partition(".")[0] for name in imports(path)}
    assert not named & NOT_FOR[package]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_reads_only_the_rooms_below_it(path):
    own = room(name_of(path))
    read = {room(name) for name in imports(path) if name.partition(".")[0] == own.partition(".")[0]}
    assert read - {own} <= MAY_READ.get(own, set())


def test_no_files_import_each_other_in_a_circle():
    arrows = defaultdict(set)
    for path in MODULES:
        arrows[name_of(path)] = {name for name in top_level_imports(path) if name.partition(".")[0] in PACKAGES}
    while leaves := {name for name, read in arrows.items() if not read & arrows.keys()}:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"in circles, or above one: {sorted(arrows)}"


def top_level_imports(path: Path) -> set[str]:
    """What is imported when the file is: not inside a function, nor for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        else:
            found |= {alias.name for alias in node.names}
    return found - {name_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_are_never_imported_by_bare_name(path):
    """`import model` takes a stray model.py from the user's folder where it is first on the path."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            bare = {alias.name.partition(".")[0] for alias in node.names} & set(PACKAGES)
            assert not bare - {"nextmem"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if f.end_lineno - f.body[0].lineno + 1 > LONGEST_FUNCTION]
    assert not long


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


def test_importing_the_face_loads_nothing_heavy():
    heavy = {"torch", "transformers", "ray", "pyarrow", "deltalake", "numpy", "tokenizers", "click"}
    assert not loaded_after("import nextmem") & heavy
