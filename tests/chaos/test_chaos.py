"""Two cells of the chaos matrix; `python -m benchmarks.chaos` runs them all.

The subset is what no other test breaks. Killed drivers are in tests/jobs/encode/test_encode_killed.py, two drivers at
once in test_s3_job.py, documents that kill their encoder in tests/pipeline/encode/test_encode_ray.py.
"""

from __future__ import annotations

import pytest

from benchmarks.chaos.cells import WHOLE, cells, run_cell
from benchmarks.chaos.scene import documents, stage

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

CELLS = {f"{fault.name} {phase}".strip(): (fault, phase) for fault, phase in cells()}
SUBSET = (
    "encoder killed in a unit",
    "node killed, not replaced written",
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
