"""What only some uses need is an extra: the base install brings none, and each extra all that its files import."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from test_layout import loaded_after

from model.refusal import Unavailable
from nextmem.extra import need

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {
    "mcp": ["bridges/mcp.py", "commands/mcp.py"],
    "serve": [f"serving/{path.name}" for path in (ROOT / "nextmem" / "serving").glob("*.py")],
    "langchain": ["bridges/langchain.py", "bridges/documents.py"],
    "langgraph": ["bridges/langgraph.py"],
    "haystack": ["bridges/haystack.py", "bridges/documents.py"],
}
BROUGHT = {  # by a package of the extra, of which it is a part that is meant to be used
    "mcp": {"pydantic", "starlette"},
    "langchain": {"pydantic"},
}
PACKAGES = {"langchain_core": "langchain-core", "langgraph": "langgraph-checkpoint", "haystack": "haystack-ai"}


def declared(lines: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", line)[0].lower() for line in lines}


def imported(path: Path) -> set[str]:
    """Packages that a file imports, of other people's, by the names they are installed by."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    others = found - set(sys.stdlib_module_names) - {"model", "pipeline", "jobs", "nextmem"}
    installed = packages_distributions()
    return {PACKAGES.get(name) or installed[name][0].lower().replace("_", "-") for name in others}


@pytest.mark.parametrize("extra", FILES)
def test_an_extra_brings_all_that_its_files_import(extra):
    brought = declared(PROJECT["dependencies"]) | declared(PROJECT["optional-dependencies"][extra])
    needed = set().union(*(imported(ROOT / "nextmem" / file) for file in FILES[extra]))
    assert needed - BROUGHT.get(extra, set()) <= brought


def test_the_base_install_brings_no_extra():
    extras = set().union(*(declared(PROJECT["optional-dependencies"][extra]) for extra in FILES))
    assert not declared(PROJECT["dependencies"]) & extras


def test_starting_the_command_line_loads_no_extra():
    assert not loaded_after("import nextmem.cli") & {"mcp", "starlette", "uvicorn", "pydantic", "prometheus_client"}


def test_what_is_missing_is_named_with_the_extra_that_brings_it():
    with pytest.raises(Unavailable, match=r"no_such.thing is not installed: pip install 'nextmem\[mcp\]'"):
        need("mcp", "no_such.thing")
    need("mcp", "json")
