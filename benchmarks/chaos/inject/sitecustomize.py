"""What the chaos suite adds to each Python process of its jobs: a record of the work done, slowness, poison, death.

Python imports this file at start-up where its folder is on PYTHONPATH. It changes functions once the module that holds
them is imported: how an encoder turns a chunk table into rows, how a file is put into a bank, how a commit is made.
What they do is the real thing.

    NEXTMEM_CHAOS_WORK      file to which each call adds a line: unit, chunks, when it began and ended
    NEXTMEM_CHAOS_SECONDS   seconds that a chunk takes longer than it would
    NEXTMEM_CHAOS_POISON    document id at which the process dies as in a segmentation fault
    NEXTMEM_CHAOS_KILL      moment at which the command's own process kills itself: `file`, once the first file is in
                            the bank; `commit`, when it is about to commit; `committed`, when it has
"""

from __future__ import annotations

import importlib.abc
import json
import os
import signal
import sys
import time

OURS = ("_jobs/", "_plan/")  # a heartbeat and a plan are no part of what a verb does


class _Patching(importlib.abc.MetaPathFinder):
    """Finds nothing itself: hands a module to the finders behind it and patches what they load."""

    def __init__(self, patched, patch):
        self.patched, self.patch = patched, patch

    def find_spec(self, name, path=None, target=None):
        if name != self.patched:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            self.patch(module)

        spec.loader.exec_module = load_and_patch
        return spec


def _trouble(module):
    module.Memoriser.memorise = _troubled(module.Memoriser.memorise)


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


def _kill_after_a_file(module):
    put = module.Folder.put

    def last(self, name, content):
        put(self, name, content)
        if not name.startswith(OURS):
            _die()

    module.Folder.put = last


def _kill_at_the_commit(module):
    swap = module.swap

    def last(*arguments):
        if os.environ["NEXTMEM_CHAOS_KILL"] == "commit":
            _die()
        stands = swap(*arguments)
        if stands:
            _die()
        return stands

    module.swap = last


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _note(**values) -> None:
    """One write of one line: several processes add to one file."""
    line = json.dumps({"pid": os.getpid(), **values}) + "\n"
    with open(os.environ["NEXTMEM_CHAOS_WORK"], "a", encoding="utf-8") as file:
        file.write(line)


def _begin():

    if "NEXTMEM_CHAOS_WORK" in os.environ:
        sys.meta_path.insert(0, _Patching("pipeline.encode.memorise", _trouble))
    if "nextmem.cli" not in sys.orig_argv:
        return  # a worker, or Ray itself
    moment = os.environ.get("NEXTMEM_CHAOS_KILL")
    if moment == "file":
        sys.meta_path.insert(0, _Patching("pipeline.storage.folder", _kill_after_a_file))
    elif moment:
        sys.meta_path.insert(0, _Patching("pipeline.bank.commit", _kill_at_the_commit))


_begin()
