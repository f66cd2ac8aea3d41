"""What the chaos suite adds to every Python process of its jobs: a record of the work done, slowness, and poison.

Python imports this file at start-up where its folder is on PYTHONPATH. It changes one method, once the module that
holds it is imported: how an encoder turns a chunk table into rows. The rows themselves are the real ones.

    NEXTMEM_CHAOS_WORK      file to which each call adds a line: unit, chunks, when it began and ended
    NEXTMEM_CHAOS_SECONDS   seconds that a chunk takes longer than it would
    NEXTMEM_CHAOS_POISON    document id at which the process dies as in a segmentation fault
"""

from __future__ import annotations

import importlib.abc
import json
import os
import sys
import time

PATCHED = "pipeline.encode.memorise"


class _Patching(importlib.abc.MetaPathFinder):
    """Finds nothing itself: hands `pipeline.encode.memorise` to the finders behind it and patches what they load."""

    def find_spec(self, name, path=None, target=None):
        if name != PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            module.Memoriser.memorise = _troubled(module.Memoriser.memorise)

        spec.loader.exec_module = load_and_patch
        return spec


def _troubled(memorise):
    def troubled(self, chunks, unit_id):
        began = time.time()
        _note(unit=unit_id, chunks=chunks.num_rows, began=began)
        if os.environ.get("NEXTMEM_CHAOS_POISON") in chunks["doc_id"].to_pylist():
            os._exit(1)
        rows = memorise(self, chunks, unit_id)
        time.sleep(float(os.environ.get("NEXTMEM_CHAOS_SECONDS", 0)) * chunks.num_rows)
        _note(unit=unit_id, chunks=chunks.num_rows, began=began, ended=time.time())
        return rows

    return troubled


def _note(**values) -> None:
    """One write of one line: several processes add to one file."""
    line = json.dumps({"pid": os.getpid(), **values}) + "\n"
    with open(os.environ["NEXTMEM_CHAOS_WORK"], "a", encoding="utf-8") as file:
        file.write(line)


if "NEXTMEM_CHAOS_WORK" in os.environ:
    import importlib.util

    sys.meta_path.insert(0, _Patching())
