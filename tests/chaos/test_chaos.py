"""Some cells of the chaos matrix, one for each thing that can die; `python -m benchmarks.chaos` runs them all."""

from __future__ import annotations

import pytest

from benchmarks.chaos.cells import WHOLE, cells, run_cell
from benchmarks.chaos.scene import documents, stage

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

CELLS = {f"{fault.name} {phase}".strip(): (fault, phase) for fault, phase in cells()}
SUBSET = (
    "driver killed, three times written",
    "encoder killed in a unit",
    "node killed, not replaced written",
    "head killed, new cluster in a unit",
    "document that crashes its encoder",
    "two drivers on one bank",
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return stage(tmp_path_factory.mktemp("chaos"))


def test_the_unbroken_run_holds_every_document(unbroken):
    assert {doc_id for doc_id, _, _ in unbroken.whole} == set(documents())


@pytest.mark.parametrize("name", SUBSET)
def test_every_chunk_is_there_once_and_nothing_committed_is_done_again(unbroken, name):
    cell = run_cell(unbroken, *CELLS[name])
    assert cell.result == WHOLE, cell
