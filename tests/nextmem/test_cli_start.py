"""The command starts fast: what it imports before it has something to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "transformers",
    "ray",
    "pyarrow",
    "deltalake",
    "numpy",
    "datasets",
    "bitsandbytes",
    "peft",
    "requests",
    "aiohttp",
)


def imported_after(code):
    """Which of HEAVY a fresh Python has imported after some code."""
    code += f"\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("argument", ["--help", "encode --help", "submit --help"])
def test_help_imports_nothing_heavy(argument):
    code = f"""
from nextmem.cli import main
try:
    main({argument.split()})
except SystemExit as end:
    assert end.code == 0
"""
    assert imported_after(code) == set()


def test_what_reads_no_latents_imports_no_torch():
    code = "import jobs.encode.encode, nextmem.bank, nextmem.commands.export, nextmem.commands.info"
    assert imported_after(code) & {"torch", "transformers", "bitsandbytes", "peft"} == set()


def test_nothing_imports_ray_before_a_job_has_set_what_ray_reads_when_it_is_imported():
    """The token's mode among it: without, a cluster that asks for a token could not be joined."""
    code = "import nextmem.encoding, nextmem.training, nextmem.commands.report, nextmem.commands.progress"
    assert "ray" not in imported_after(code)


def test_a_reader_of_units_loads_no_torch():
    assert "torch" not in imported_after("import pipeline.encode.read_work")


@pytest.mark.parametrize(
    "command", ["encode", "recall", "search", "export", "info", "verify", "submit", "jobs", "logs", "stop"]
)
def test_every_command_explains_itself(nextmem, command):
    ran = nextmem(command, "--help")
    assert ran.code == 0 and "--json" in ran.out and ran.out.startswith("Usage: ")


def test_a_missing_argument_is_a_usage_error(nextmem):
    ran = nextmem("encode", "corpus.jsonl")
    assert ran.code == 2 and "Missing argument" in ran.err


def test_actors_help_says_what_the_readme_says(nextmem):
    assert "one a core, as memory allows" in " ".join(nextmem("encode", "--help").out.split())
    assert "one a core, as far as memory goes" in (ROOT / "README.md").read_text()
