"""The documents name what there is, and their lines can be read: every module, link and heading resolves."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from jobs.settings import EncodeSettings, RefineSettings, TendSettings
from model.config import CodecConfig
from model.training.curriculum import TrainConfig
from model.training.reading_trainer import ReaderConfig
from model.training.teaching import HeadConfig

ROOT = Path(__file__).parents[1]
LONGEST = 120
PACKAGES = ("model", "pipeline", "jobs", "nextmem")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("model/codecs/*/*.md"),
    ]
)
MODULES = re.compile(r"python -m ((?:nextmem|benchmarks|jobs|pipeline|model)[\w.]*)")
LINKS = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document):
    linked = LINKS.findall((ROOT / document).read_text())
    assert [link for link in linked if not ((ROOT / document).parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_of_an_index_leads_to_a_heading(document):
    text = (ROOT / document).read_text()
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    assert [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", text) if anchor not in anchors] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_that_a_document_runs_is_there(document):
    modules = set(MODULES.findall((ROOT / document).read_text()))
    assert [name for name in sorted(modules) if importlib.util.find_spec(name.rstrip(".")) is None] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_line_outside_a_table_is_over_120_characters(document):
    lines = (ROOT / document).read_text().splitlines()
    assert [line for line in lines if len(line) > LONGEST and not line.startswith("|")] == []


def sections(document):
    """Each second-level heading's text, by its heading."""
    parts = re.split(r"^## (.*)$", (ROOT / document).read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("heading", "configs"),
    [
        ("Of the job", (EncodeSettings,)),
        ("Of refining", (RefineSettings,)),
        ("Of tending a bank", (TendSettings,)),
        ("Of a new codec", (CodecConfig,)),
        ("Of a training run", (TrainConfig,)),
        ("Of a head", (HeadConfig,)),
        ("Of a reader", (ReaderConfig,)),
    ],
)
def test_settings_are_the_keys_that_the_code_takes(heading, configs):
    rows = re.findall(r"^\| ([a-z][\w, ]*) \|", sections("docs/settings.md")[heading], flags=re.M)
    documented = {key for row in rows for key in row.split(", ")} - {"key"}
    assert documented == {field.name for config in configs for field in fields(config)}


def test_every_module_of_the_packages_stands_in_the_readme_s_tree():
    tree = next(block for block in (ROOT / "README.md").read_text().split("```") if "\nnextmem/  " in block)
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    modules = {path.stem for path in files if path.parent.name != "commands"} - {"__init__", "__main__"}
    assert sorted(modules - set(re.findall(r"\w+", tree))) == []
