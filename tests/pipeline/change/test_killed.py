"""A process that remembers or edits is killed: it has done all or nothing, and the same call does the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from banks import held
from killed import CHANGES, NEW, OLD
from works import ARTICLES

from pipeline.bank.bank import Bank
from pipeline.bank.problems import first_problems
from pipeline.change.rewrite import known

MOMENTS = ("seen", "rows written", "committed")  # of killed.py, in its order


@pytest.mark.parametrize("change", CHANGES)
def test_a_writer_that_is_killed_has_done_all_or_nothing_and_the_same_call_goes_on(
    articles, codec, tiny_codec_folder, tmp_path, change
):
    copies = {moment: str(shutil.copytree(articles, tmp_path / moment)) for moment in MOMENTS}
    command = [sys.executable, Path(__file__).with_name("killed.py"), tiny_codec_folder, change, *copies.values()]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert killed.stdout.split() == ["-9"] * len(MOMENTS), killed.stderr
    before, after = Bank.open(articles), Bank.open(copies["committed"])
    for uri in copies.values():
        bank = Bank.open(uri)
        assert state(bank, codec) == state(after if uri == copies["committed"] else before, codec)
        CHANGES[change](codec, bank)
        assert state(Bank.open(uri), codec) == state(after, codec) and first_problems(Bank.open(uri)) == []
    assert state(after, codec) != state(before, codec)
    assert known(after, codec, "fox").text == ARTICLES["fox"].replace(*((OLD, NEW) if change == "edit" else ("", "")))


def state(bank, codec):
    """Rows and text of each document."""
    return {doc_id: (rows, known(bank, codec, doc_id).text) for doc_id, rows in held(bank).items()}
