"""What upkeep finds to do, beside what tests of commits show of deleting, compacting and vacuuming."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from banks import IDENTITY, held, receipt

from pipeline.bank.bank import Bank
from pipeline.bank.commit import commit
from pipeline.bank.problems import first_problems
from pipeline.bank.upkeep import checkpoint, compact, drop, joinable, unneeded

LONG_AGO = (1e9, 1e9)


@pytest.fixture
def bank(tmp_path):
    """Three files of one document each."""
    bank = Bank.create(tmp_path / "bank", IDENTITY)
    for name in "abc":
        commit(bank, [receipt(bank, f"unit-{name}", {name: 2})])
    return bank


def test_orphans_and_superseded_files_are_told_apart(bank):
    once = bank.files()
    (orphan,) = (file.path for file in receipt(bank, "lost", {"x": 1}).files)
    compact(bank)
    found = unneeded(bank, orphan_hours=0, version_hours=0)
    assert (found.orphans, found.superseded) == ((orphan,), tuple(once))


def test_a_young_orphan_and_a_file_that_left_lately_stay(bank):
    receipt(bank, "lost", {"x": 1})
    (old,) = (file.path for file in receipt(bank, "lost-long-ago", {"y": 1}).files)
    os.utime(Path(bank.folder.uri, old), LONG_AGO)
    compact(bank)
    found = unneeded(bank, orphan_hours=1, version_hours=168)
    assert (found.orphans, found.superseded) == ((old,), ())


def test_a_half_written_file_is_an_orphan_and_somebody_else_s_file_is_nothing(bank):
    for name in (".tmp-part-u-0000-00.parquet-0123456789ab", "notes.parquet"):
        Path(bank.folder.uri, name).write_bytes(b"half")
    assert unneeded(bank, orphan_hours=0, version_hours=0).orphans == (".tmp-part-u-0000-00.parquet-0123456789ab",)


def test_a_file_that_is_gone_leaves_with_the_other_files_of_its_unit_and_a_rerun_is_told(bank, monkeypatch):
    monkeypatch.setattr("pipeline.bank.unit_file.MAX_FILE_BYTES", 1)  # a row group a file
    monkeypatch.setattr("pipeline.bank.unit_file.GROUP_BYTES", 1)
    commit(bank, [receipt(bank, "unit-d", {"d": 3, "e": 2})])
    mine = [name for name in bank.files() if "unit-d" in name]
    assert len(mine) > 1 and not bank.has_losses()
    Path(bank.folder.uri, mine[0]).unlink()
    (problem,) = (found for found in first_problems(bank) if found.is_file)
    assert problem.where == mine[0]
    assert drop(bank, [problem.where]) == mine
    assert first_problems(bank) == [] and held(bank) == {"a": 2, "b": 2, "c": 2}
    assert bank.has_losses() and bank.replacements() == 1 and bank.is_finished("unit-d")
    assert drop(bank, [problem.where]) == []


def test_a_torn_file_that_was_joined_leaves_alone(bank):
    compact(bank)
    commit(bank, [receipt(bank, "unit-d", {"d": 1})])
    (joined,) = (name for name in bank.files() if "unit-d" not in name)
    os.truncate(Path(bank.folder.uri, joined), 100)
    assert drop(bank, [found.where for found in first_problems(bank) if found.is_file]) == [joined]
    assert held(bank) == {"d": 1}


def test_old_plans_are_unneeded_and_the_newest_is_not(bank):
    for name, age in (("a", 1e9), ("b", 1.1e9), ("c", None)):
        bank.folder.put(f"_plan/{name}.plan.parquet", b"PAR1")
        if age:
            os.utime(Path(bank.folder.uri, f"_plan/{name}.plan.parquet"), (age, age))
    assert unneeded(bank, orphan_hours=0, version_hours=1).plans == ("_plan/a.plan.parquet", "_plan/b.plan.parquet")
    assert unneeded(bank, orphan_hours=0, version_hours=0).plans == ("_plan/a.plan.parquet", "_plan/b.plan.parquet")


def test_one_file_alone_is_not_joined(bank):
    assert len(joinable(bank)) == 3
    compact(bank)
    assert len(joinable(bank)) == 1 and compact(bank) == 0


def test_a_checkpoint_lets_old_commits_go_and_keeps_rows_and_finished_units(bank):
    assert checkpoint(bank) == 0
    for path in Path(bank.folder.uri, "_delta_log").glob("*.json"):
        os.utime(path, LONG_AGO)
    assert checkpoint(bank) == 3
    reopened = Bank.open(bank.folder.uri)
    assert held(bank) == {"a": 2, "b": 2, "c": 2} and first_problems(reopened) == []
    assert reopened.finished_units() == {"unit-a", "unit-b", "unit-c"}
    commit(reopened, [receipt(reopened, "unit-d", {"d": 1})])
    assert held(bank)["d"] == 1
