"""Files that documents, docstrings and comments name are there: a rename must reach them too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("model", "pipeline", "jobs", "nextmem", "tests", "benchmarks", "docs", "examples", "deploy", "samples")
NAMED = re.compile(rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[\w/-]+\.(?:py|md|svg|sh|yaml)\b")
READ = [ROOT / "README.md", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*")))]


@pytest.mark.parametrize(
    "path", [p for p in READ if p.suffix in (".py", ".md", ".yaml")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_file_that_is_named_is_there(path):
    named = set(NAMED.findall(path.read_text(encoding="utf-8")))
    assert not sorted(name for name in named if not (ROOT / name).is_file())
