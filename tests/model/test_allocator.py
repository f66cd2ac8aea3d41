"""Memory that is freed stays with the process: the same block again costs no new pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from model.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(80_000_000)
    del block
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(kept, faults[-1])
"""


def again(mode: str) -> tuple[str, int]:
    """What keep_freed_memory said, and page faults of the third block of 80 MB."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    said, faults = done.stdout.split()
    return said, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's mallopt")
def test_a_block_that_was_freed_costs_no_pages_again():
    said, faults = again("keep")
    if said == "False":
        pytest.skip("this C library has no mallopt")
    assert faults < 100 < again("as it is")[1]
