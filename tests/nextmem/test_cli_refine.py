"""`nextmem refine` and `encode --refine`: what a person asks for, what is refused, what is said afterwards."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from jobs.settings import EncodeSettings, RefineSettings, apply_settings
from model.config import RefineConfig
from nextmem.commands.options import AUTO
from pipeline.bank.bank import Bank
from pipeline.bank.presence import Presence
from pipeline.schema import REFINE_STEPS


@pytest.fixture
def bank(articles, tmp_path):
    return shutil.copytree(articles, tmp_path / "bank")


def test_a_bank_is_refined_says_so_and_recalls_as_before(nextmem, articles, bank):
    ran = nextmem("refine", bank, "--refine", 2)
    assert ran.code == 0 and "chunks in 2.0 steps each" in ran.out and "before" in ran.out
    assert nextmem("recall", bank, "--all").out == nextmem("recall", articles, "--all").out
    assert "whole: every chunk once" in nextmem("verify", bank).out
    assert "chunks in 2.0 steps each" in nextmem("info", bank).out


def test_refining_again_does_nothing(nextmem, bank):
    nextmem("refine", bank, "--refine", 1)
    version = Bank.open(bank).version
    assert "nothing: every row asked for is refined as far" in nextmem("refine", bank, "--refine", 1).out
    assert Bank.open(bank).version == version


def test_json_says_what_was_done(nextmem, bank):
    (record,) = nextmem("refine", bank, "--where", "doc_id=fox", "--refine", 1, "--json").records
    assert (record["event"], record["rows"], record["steps"]) == ("refined", 2, 2)
    assert record["patch_bytes"] <= record["patch_bytes_before"]


def test_info_of_a_bank_without_refined_rows_says_nothing_of_refining(nextmem, articles):
    assert "refined" not in nextmem("info", articles).out


def test_a_condition_that_means_nothing_is_refused_and_nothing_is_changed(refused, bank):
    version = Bank.open(bank).version
    assert "no column 'colour' to filter by" in refused("refine", bank, "--where", "colour=red")
    assert Bank.open(bank).version == version


def test_a_bank_that_is_tended_is_not_refined(refused, bank):
    with Presence(Bank.open(bank).folder, "tend") as tending:
        tending.begin(state="tending")
        assert refused("refine", bank).startswith("`nextmem tend` is at work on")


def test_a_bank_that_is_refined_is_not_tended(refused, bank):
    with Presence(Bank.open(bank).folder, "refine") as refining:
        refining.begin(state="refining")
        assert refused("tend", bank).startswith("`nextmem refine` is at work on")


def test_what_is_no_bank_is_refused(refused, tmp_path):
    assert "is not a memory bank" in refused("refine", tmp_path / "nowhere")


@pytest.mark.parametrize("steps", ["0", "-1", "many", "1.5"])
def test_steps_that_are_no_number_are_a_usage_error(nextmem, bank, steps):
    ran = nextmem("refine", bank, f"--refine={steps}")
    assert ran.code == 2 and "neither a number of steps (1 or more) nor `auto`" in ran.err


def test_refining_without_verifying_is_a_usage_error(nextmem, tmp_path):
    ran = nextmem("encode", "corpus.jsonl", tmp_path / "bank", "--refine", 8, "--no-verify")
    assert ran.code == 2 and "--refine needs verifying" in ran.err
    assert not (tmp_path / "bank").exists()


def test_auto_means_the_setting_and_a_number_itself():
    _, settings = apply_settings(["refine_most=30", "refine_batch=4"], EncodeSettings(), RefineSettings())
    assert settings.config(AUTO) == RefineConfig(30, 4)
    assert settings.config(8) == RefineConfig(8, 4)
    assert settings.config(None) is None


def test_a_setting_that_means_nothing_is_refused(refused, bank):
    assert "refine_most is 0; it must be at least 1" in refused("refine", bank, "--set", "refine_most=0")


SLOWLY = """
import sys, time
import pipeline.bank.refine_bank as refine_bank
from nextmem.cli import main
refine_bank.PIECE, swap = 1, refine_bank.swap
refine_bank.swap = lambda *arguments: (time.sleep(0.5), swap(*arguments))[1]
main(sys.argv[1:])
"""


def test_a_job_killed_between_two_commits_goes_on_and_the_bank_is_whole(nextmem, articles, bank):
    begun, total = Bank.open(bank).version, Bank.open(bank).count()
    job = subprocess.Popen([sys.executable, "-c", SLOWLY, "refine", str(bank), "--refine", "1", "--json"])
    try:
        deadline = time.monotonic() + 120
        while Bank.open(bank).version < begun + 2 and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        job.kill()
        job.wait()
    refined = sum(steps is not None for batch in Bank.open(bank).rows([REFINE_STEPS]) for steps in batch[0].to_pylist())
    assert 2 <= refined < total
    (record,) = nextmem("refine", bank, "--refine", 1, "--json").records
    assert record["rows"] == total - refined
    assert nextmem("recall", bank, "--all").out == nextmem("recall", articles, "--all").out
    assert nextmem("verify", bank).code == 0
