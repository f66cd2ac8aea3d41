"""The Grafana dashboard and docs/observe.md speak of exactly the metrics that the code exports."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pipeline.encode.metrics import METRICS

ROOT = Path(__file__).parents[1]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "nextmem.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def named(text):
    """Metrics named in a query or a document, a histogram by its own name."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"ray_nextmem_\w+", text)}


def test_every_metric_is_drawn_and_nothing_else_is():
    variables = json.dumps(DASHBOARD["templating"])
    assert named(" ".join(QUERIES)) == {metric.scraped for metric in METRICS}
    assert named(variables) < {metric.scraped for metric in METRICS}


def test_every_query_is_of_the_chosen_bank_and_grouped_by_labels_there_are():
    labels = {label for metric in METRICS for label in metric.labels} | {"le", "NodeAddress"}  # Ray's own
    for query in QUERIES:
        assert query.count('{bank=~"$bank"}') == len(re.findall(r"ray_nextmem_", query))
        assert {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")} <= labels


def test_panels_have_their_own_ids_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) == 23


def test_the_documented_table_is_the_code_s():
    rows = [line for line in (ROOT / "docs" / "observe.md").read_text().splitlines() if line.startswith("| nextmem_")]
    assert rows == [
        f"| {m.name} | {m.kind.__name__.lower()} | {m.unit} | {', '.join(m.labels)} | {m.meaning} |" for m in METRICS
    ]
